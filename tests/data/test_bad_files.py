"""Loaders of files that hang, kill, lie or are not videos."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from tests.misbehaving import bad, loader_of, two_epochs
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.video.records import Video
from video_snl.errors import UserError

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("stuck.avi", "timeout", "took longer than data.deadline=2 s"),
        ("killer.avi", "died", "its process died: SIGSEGV"),
        ("corrupt.avi", "error", "{path} is not a readable video"),
        ("bug.avi", "error", "ZeroDivisionError: no exception of ours (misbehaving.py:"),
    ],
)
def test_another_video_of_the_class_is_shown(
    good: list[Video], tmp_path: Path, name: str, kind: str, reason: str
) -> None:
    videos = [*good, bad(tmp_path, name, 1)]
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", 0.05)
    loader = loader_of(videos, quarantine=quarantine)
    began = time.monotonic()
    batches = list(two_epochs(loader))
    assert time.monotonic() - began < 30
    labels = torch.cat([batch["label"] for batch in batches]).tolist()
    shown = torch.cat([batch["index"] for batch in batches]).tolist()
    assert sorted(labels) == sorted(2 * [video.label for video in videos])
    assert 6 not in shown and labels == [videos[i].label for i in shown]
    [line] = (tmp_path / "quarantine.jsonl").read_text().splitlines()  # not tried again
    note = json.loads(line)
    assert (note["path"], note["kind"]) == (videos[6].path, kind)
    assert note["reason"].startswith(reason.format(path=videos[6].path))
    loader.close()


def test_a_file_that_kills_its_process_has_three_attempts(
    good: list[Video], tmp_path: Path
) -> None:
    videos = [*good, bad(tmp_path, "killer.avi", 1)]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, 1, quarantine, training=False, batch_size=1)
    assert [batch["unreadable"].tolist() for batch in loader] == [[]] * 6 + [[6]]
    assert loader.profile.replaced == 3 and quarantine.bad[videos[6].path].kind == "died"
    loader.close()


def test_the_same_videos_stand_in_whatever_the_workers(good: list[Video], tmp_path: Path) -> None:
    bads = [bad(tmp_path, f"corrupt{i}.avi", i % 2) for i in range(3)]
    found = []
    for num_workers in (0, 1, 3):
        quarantine = Quarantine(None, 0.05)
        loader = loader_of([*bads, *good], num_workers, quarantine)
        found.append(list(two_epochs(loader)))
        loader.close()
        assert set(quarantine.bad) == {video.path for video in bads}
    assert sum(len(batch["index"]) for batch in found[0]) == 2 * 9
    for alone, few, many in zip(*found, strict=True):
        for name in alone:
            assert torch.equal(alone[name], few[name]), name
            assert torch.equal(alone[name], many[name]), name


def test_a_resumed_run_tries_no_bad_file_again(good: list[Video], tmp_path: Path) -> None:
    videos = [*good, bad(tmp_path, "stuck.avi", 0)]
    file = tmp_path / "quarantine.jsonl"
    first = loader_of(videos, quarantine=Quarantine(file, 0.05))
    whole = list(two_epochs(first))
    first.close()
    assert first.profile.replaced == 0  # in the second epoch
    before = file.read_text()
    again = loader_of(videos, quarantine=Quarantine(file, 0.05))
    again.sampler.set_epoch(1)
    for batch, expected in zip(again, whole[2:], strict=True):
        assert torch.equal(batch["video"], expected["video"])
    assert again.profile.replaced == 0 and file.read_text() == before
    again.close()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "num_workers"), [("error", 0), ("error", 2), ("stuck", 2)])
def test_a_fault_that_passes_costs_no_file(
    good: list[Video], tmp_path: Path, name: str, num_workers: int, training: bool
) -> None:
    videos = [*good, bad(tmp_path, f"once-{name}.avi", 1)]
    quarantine = Quarantine(None, 0)
    loader = loader_of(videos, num_workers, quarantine, training=training)
    shown = torch.cat([batch["index"] for batch in loader]).tolist()
    assert sorted(shown) == list(range(7)) and not quarantine.bad
    assert Path(f"{videos[6].path}.tried").exists()
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_lists_what_it_cannot_read(
    good: list[Video], tmp_path: Path, num_workers: int
) -> None:
    names = ("corrupt0.avi", "corrupt1.avi", "bug.avi")
    videos = [good[0], *(bad(tmp_path, name, 1) for name in names), *good[1:3]]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, num_workers, quarantine, training=False, batch_size=2)
    for _ in range(2):
        batches = list(loader)
        assert [batch["index"].tolist() for batch in batches] == [[0], [], [4, 5]]
        assert [batch["unreadable"].tolist() for batch in batches] == [[1], [2, 3], []]
        assert batches[0]["centre"].shape == (1, 4, 24, 32, 3) and "centre" not in batches[1]
        assert batches[1]["label"].tolist() == []
        assert loader.profile.clips == 3
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_bad_files_stop(good: list[Video], tmp_path: Path, num_workers: int) -> None:
    videos = [*good, *(bad(tmp_path, f"corrupt{i}.avi", 1) for i in range(4))]
    loader = loader_of(videos, num_workers, Quarantine(tmp_path / "q.jsonl", 0.05))
    with pytest.raises(UserError, match=r"4 of 10 training videos cannot be read.*q\.jsonl"):
        list(loader)
    loader.close()
    again = loader_of(videos, num_workers, Quarantine(tmp_path / "q.jsonl", 0.05))
    with pytest.raises(UserError, match="4 of 10 training videos cannot be read"):
        next(iter(again))
    again.close()


def test_one_bad_file_stops_where_none_may_be(good: list[Video], tmp_path: Path) -> None:
    videos = [*good, bad(tmp_path, "corrupt.avi", 1)]
    with pytest.raises(UserError, match=r"1 of 7 training videos .* lets 0 pass: .*corrupt\.avi"):
        list(loader_of(videos, 0, Quarantine(None, 0)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_class_without_readable_videos_stops(
    good: list[Video], tmp_path: Path, num_workers: int
) -> None:
    videos = [*good, bad(tmp_path, "corrupt0.avi", 2), bad(tmp_path, "corrupt1.avi", 2)]
    loader = loader_of(videos, num_workers, Quarantine(None, 0.05))
    with pytest.raises(
        UserError, match=r"none of the 2 training videos of the class of \S*corrupt"
    ):
        list(loader)
    loader.close()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_short_video_is_a_matter_of_options(
    good: list[Video], tmp_path: Path, num_workers: int, training: bool
) -> None:
    videos = [*good, bad(tmp_path, "short.avi", 0)]
    quarantine = Quarantine(None, 0.05)
    loader = loader_of(videos, num_workers, quarantine, training=training)
    with pytest.raises(UserError, match=r"short\.avi has 3 frames, a clip spans 4"):
        list(loader)
    assert not quarantine.bad
    loader.close()


def test_without_a_quarantine_a_deadline_is_an_error(good: list[Video], tmp_path: Path) -> None:
    loader = loader_of([*good, bad(tmp_path, "stuck.avi", 0)], training=False)
    batches = iter(loader)
    assert len(next(batches)["label"]) == 4
    with pytest.raises(UserError, match=r"stuck\.avi: took longer than data\.deadline=2 s"):
        next(batches)
    loader.close()
