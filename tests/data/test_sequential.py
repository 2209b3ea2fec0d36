"""Reading a video from its first frame on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.videos import write_video
from video_snl.data import sequential
from video_snl.data.sequential import SequentialReader
from video_snl.errors import UserError


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Frame k is grey 10 k."""
    return str(write_video(tmp_path_factory.mktemp("videos") / "a.avi", 20))


def grey(frames: torch.Tensor) -> list[int]:
    return [round(value / 10) for value in frames.float().mean((1, 2, 3)).tolist()]


def test_frames_in_any_order(video: str) -> None:
    reader = SequentialReader(video, 20, missing=2)
    assert grey(reader.frames([7, 3, 3, 19])) == [7, 3, 3, 19]
    assert grey(reader.frames([0, 12])) == [0, 12]


def test_ascending_frames_are_decoded_once(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    decode = sequential._decode
    monkeypatch.setattr(sequential, "_decode", lambda path: passes.append(path) or decode(path))
    reader = SequentialReader(video, 20, missing=2)
    assert [grey(reader.frames(part)) for part in ([1, 4], [4, 9], [19])] == [[1, 4], [4, 9], [19]]
    assert len(passes) == 1
    reader.frames([4])
    assert len(passes) == 2


def test_the_last_frame_stands_for_few_missing_ones(video: str) -> None:
    reader = SequentialReader(video, 22, missing=2)
    assert grey(reader.frames([18, 19, 20, 21])) == [18, 19, 19, 19]
    with pytest.raises(UserError, match=r"breaks at frame 20 of 23: fetch the file again"):
        SequentialReader(video, 23, missing=2).frames([21])


def test_a_file_that_breaks(video: str, tmp_path: Path) -> None:
    whole = Path(video).read_bytes()
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="breaks at frame"):
        SequentialReader(str(broken), 20, missing=2).frames([19])
    broken.write_bytes(b"no video")
    with pytest.raises(UserError, match="breaks at frame 0"):
        SequentialReader(str(broken), 20, missing=2).frames([0])
