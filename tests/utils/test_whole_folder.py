"""Folders that are whole or absent, and what a kill leaves of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import environment
from video_snl.utils.locks import whole_folder

BEGIN = """
import sys
from pathlib import Path
from video_snl.utils.locks import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("")
    print(folder, flush=True)
    sys.stdin.read()
"""


def begun(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is filling the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_kill_left_is_removed_and_no_running_process_disturbed(tmp_path: Path) -> None:
    target = tmp_path / "crops"
    others = [tmp_path / ".crops.mine.partial", tmp_path / ".crops-a.01234567.partial"]
    for folder in others:
        folder.mkdir()
    killed, left = begun(target)
    killed.kill()
    killed.wait()
    running, busy = begun(target)  # which sweeps, too
    assert not left.exists() and (busy / "half").exists()
    with whole_folder(target) as folder:
        (folder / "whole").write_text("")
        assert sorted(tmp_path.iterdir()) == sorted([busy, folder, *others])
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert (busy / "half").exists()
    running.communicate("")  # its place is taken: it fails, and leaves nothing
    assert running.returncode == 1
    assert sorted(tmp_path.iterdir()) == sorted([target, *others])


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "a" / "b") as folder:
        (folder / "half").write_text("")
        raise KeyboardInterrupt
    assert list((tmp_path / "a").iterdir()) == []
