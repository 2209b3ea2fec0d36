"""``reid extract`` of many tracklets: blocks that are done outlast an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.cli.main import main
from reid.retrieval import extract as extracting
from reid.retrieval.encode import Encoded
from reid.retrieval.features import FeatureTable, read_features
from tests.reid.little import run, write_tracklet
from tests.tiny import environment


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Twelve tracklets of four frames."""
    folder = tmp_path / "people"
    for number in range(12):
        write_tracklet(folder / f"{number:02}", number, 0, frames=4)
    return folder


@pytest.fixture
def words(trained: Path, people: Path) -> list[str]:
    options = ["--checkpoint", str(trained), "--accelerator", "cpu"]
    return ["extract", str(people), *options, "-o"]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two tracklets."""
    monkeypatch.setattr(extracting, "_BLOCK_FRAMES", 8)


def test_progress_counts_what_it_says(trained: Path, tmp_path: Path) -> None:
    write_tracklet(tmp_path / "people" / "a", 1, 0, frames=33)  # 16 chunks of 2 frames, and one
    write_tracklet(tmp_path / "people" / "b", 2, 0)
    words = ["--checkpoint", str(trained), "--accelerator", "cpu"]
    words += ["-o", str(tmp_path / "f.parquet")]
    for name, said in (("b", "tracklets: 1 of 1"), (".", "pieces of tracklets: 3 of 3")):
        done = run("extract", str(tmp_path / "people" / name), *words)
        assert done.returncode == 0 and said in done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_interrupted_command_goes_on(
    words: list[str],
    people: Path,
    tmp_path: Path,
    blocks: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target, parts = tmp_path / "f.parquet", tmp_path / "f.parquet.parts"
    code = (
        "import reid.retrieval.extract as extract\n"
        "from reid.cli.main import main\n"
        f"extract._BLOCK_FRAMES = 8\nraise SystemExit(main({[*words, str(target)]!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment()
    )
    end = time.monotonic() + 120
    while not list(parts.glob("part-*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert f"what is done is in {parts}; the same command goes on" in said
    assert not target.exists()
    done = len(list(parts.glob("part-*.npz")))
    assert 1 <= done < 6
    assert main([*words, str(target)]) == 0
    assert f"{2 * done} of 12 tracklets are computed already" in capsys.readouterr().err
    assert not parts.exists()
    assert main([*words, str(tmp_path / "whole.parquet")]) == 0
    assert target.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_only_what_fits_is_taken(
    words: list[str],
    people: Path,
    tmp_path: Path,
    blocks: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A part that is damaged, and one of an image that has changed, are computed anew."""
    target, parts = tmp_path / "f.parquet", tmp_path / "f.parquet.parts"
    computed = list[int]()
    encode = extracting.encode

    def count(model: object, tracklets: list[object], *rest: object, **options: object) -> object:
        if len(computed) == 5:
            raise KeyboardInterrupt
        computed.append(len(tracklets))
        return encode(model, tracklets, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(extracting, "encode", count)
    assert main([*words, str(target)]) == 130
    assert computed == [2] * 5 and len(list(parts.glob("part-*.npz"))) == 5
    damaged = min(parts.glob("part-*.npz"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    # The third block, in which damage may be too, is of other images now.
    old = people / "04" / "0000.png"
    os.utime(old, ns=(1, 1))
    computed.clear()
    capsys.readouterr()
    assert main([*words, str(target)]) == 0
    said = capsys.readouterr().err
    assert len(computed) in (2, 3)
    assert (f"{damaged} is damaged" in said) == (len(computed) == 3)
    monkeypatch.setattr(extracting, "_BLOCK_FRAMES", 4096)
    computed.clear()
    assert main([*words, str(tmp_path / "whole.parquet")]) == 0
    found, whole = read_features(target), read_features(tmp_path / "whole.parquet")
    assert computed == [12] and found.names == whole.names
    assert found.num_frames.tolist() == whole.num_frames.tolist() == [4] * 12
    np.testing.assert_allclose(found.features, whole.features, rtol=1e-4, atol=1e-5)


def test_two_commands_do_not_write_one_file(
    words: list[str],
    tmp_path: Path,
    blocks: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "f.parquet"
    with extracting.PartFiles(target, ".npz").alone():
        assert main([*words, str(target)]) == 2
    assert f"another command writes {target} now" in capsys.readouterr().err
    assert not target.exists() and not target.with_name("f.parquet.parts").exists()
    write, refused = extracting.write_features, list[int]()

    def write_late(path: Path, table: FeatureTable) -> None:
        monkeypatch.setattr(extracting, "write_features", write)
        refused.append(main([*words, str(target)]))
        write(path, table)

    monkeypatch.setattr(extracting, "write_features", write_late)
    assert main([*words, str(target)]) == 0 and refused == [2]
    assert len(read_features(target)) == 12
    assert not target.with_name("f.parquet.parts").exists()


def test_a_video_is_not_replaced_by_its_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "hall.mp4"
    video.write_bytes(b"a recording")
    (tmp_path / "link").symlink_to(tmp_path)
    assert main(["extract", str(video), "-o", str(tmp_path / "link" / "hall.mp4")]) == 2
    assert "is another file of this command" in capsys.readouterr().err
    assert video.read_bytes() == b"a recording"


def test_any_flipped_bit_means_computing_anew(tmp_path: Path) -> None:
    """A flipped bit makes zipfile raise anything, for some say that the part is encrypted."""
    path = tmp_path / "part-0.npz"
    found = Encoded(torch.ones(1, 2), np.ones(1, np.int64), np.zeros(1, np.int64), np.ones(1, bool))
    extracting._write_part(path, found, path)
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 5):  # of 8 bits, each is met
        byte, bit = divmod(place, 8)
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :])
        read = extracting._read_part(path, 1)
        assert read is None or torch.equal(read.features, found.features)
