"""Notes of bad files: kept, shared, counted."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from video_snl.data.loading.quarantine import Quarantine, tolerated
from video_snl.errors import UserError


@pytest.mark.parametrize(
    ("files", "share", "allowed"),
    [(10, 0.05, 3), (60, 0.05, 3), (80, 0.05, 4), (9537, 0.05, 476), (10, 0, 0), (10, 1, 10)],
)
def test_how_many_may_be_bad(files: int, share: float, allowed: int) -> None:
    assert tolerated(files, share) == allowed


def test_a_note_says_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run" / "quarantine.jsonl"
    quarantine = Quarantine(file, 0.05)
    assert not file.exists() and "a.avi" not in quarantine
    quarantine.add("a.avi", "timeout", "took longer than 2 s", 2.00049)
    quarantine.add("a.avi", "error", "once more", 1)
    [line] = file.read_text().splitlines()
    note = json.loads(line)
    assert datetime.now(UTC) - datetime.fromisoformat(note.pop("time")) < timedelta(minutes=1)
    assert note == {
        "path": "a.avi",
        "kind": "timeout",
        "reason": "took longer than 2 s",
        "seconds": 2.0,
    }
    said = capsys.readouterr().err
    assert said == "unreadable (timeout after 2.0 s): a.avi: took longer than 2 s\n"


def test_notes_are_there_again(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"
    first, second = Quarantine(file, 0.05), Quarantine(file, 0.05)
    first.add("ä\udcff.avi", "error", "ä\udcff.avi is empty", 0.1)  # a name that is no UTF-8
    assert "ä\udcff.avi" not in second
    second.refresh()
    assert "ä\udcff.avi" in second and second.bad == Quarantine(file, 0.05).bad


def test_a_file_whose_line_was_taken_out_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"
    for name in ("a.avi", "b.avi"):
        Quarantine(file, 0.05).add(name, "error", f"{name} is empty", 0.1)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[1])
    assert set(Quarantine(file, 0.05).bad) == {"b.avi"}


def test_a_damaged_line_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "quarantine.jsonl"
    Quarantine(file, 0.05).add("a.avi", "error", "bad", 0.1)
    with file.open("ab") as opened:
        opened.write(b'{"path": "b.avi", "ki\x00\xff')  # cut by a power failure
    Quarantine(file, 0.05).add("c.avi", "error", "bad", 0.1)
    capsys.readouterr()
    quarantine = Quarantine(file, 0.05)
    quarantine.refresh()
    assert set(quarantine.bad) == {"a.avi", "c.avi"}
    assert capsys.readouterr().err == f"{file}, line 2 is damaged and left out\n"


def test_several_may_write_at_once(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"

    def write(writer: int) -> None:
        quarantine = Quarantine(file, 0.05)
        for i in range(50):
            quarantine.add(f"{writer}-{i}.avi", "error", "x" * 500, 0.1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(Quarantine(file, 0.05).bad) == 400


def test_too_many_are_summarised_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(file, 0.05)
    paths = [f"{i}.avi" for i in range(20)]
    for path in [*paths[:3], "other.avi"]:
        quarantine.add(path, "error", f"{path} is empty", 0.1)
    quarantine.check(paths, "training")
    quarantine.add("3.avi", "timeout", "took longer than 2 s", 2)
    with pytest.raises(UserError) as caught:
        quarantine.check(paths, "training")
    assert str(caught.value) == (
        "4 of 20 training videos cannot be read, and data.max_failures=0.05 lets 3 pass: 0.avi is "
        f"empty; 1.avi is empty; 2.avi is empty and 1 more (all are listed in {file}): mend the "
        "files, take them off the list, or raise --data.max_failures"
    )


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("files", [1, 10, 200])
def test_a_check_tells_how_many_more_it_lets_pass(files: int, share: float) -> None:
    """Whoever waits until so many more are noted stops at the same one as by asking each time."""
    listed = [f"{number}.avi" for number in range(files)]
    found = [path for number, path in enumerate(listed) for path in (path, f"other {number}")]
    stops = []
    for every_time in (True, False):
        quarantine, fine, looks = Quarantine(None, share), -1, 0
        try:
            for path in found:
                quarantine.add(path, "error", "is empty", 0.1)
                if every_time or len(quarantine.bad) > fine:
                    fine = len(quarantine.bad) + quarantine.check(iter(listed), "training")
                    looks += 1
        except UserError as error:
            stops.append((len(quarantine.bad), str(error)))
        else:
            stops.append((len(quarantine.bad), ""))
    assert stops[0] == stops[1]
    assert looks <= 10  # and not one for each of the faults, which would be quadratic


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "quarantine.jsonl").mkdir()
    with pytest.raises(UserError, match=r"quarantine\.jsonl cannot be read"):
        Quarantine(tmp_path / "quarantine.jsonl", 0.05)
    quarantine = Quarantine(tmp_path / "later" / "quarantine.jsonl", 0.05)
    os.mkfifo(tmp_path / "later")  # no folder
    with pytest.raises(UserError, match=r"quarantine\.jsonl cannot be written"):
        quarantine.add("a.avi", "error", "bad", 0.1)
