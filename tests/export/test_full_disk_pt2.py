"""A disk that is full while a .pt2 file is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.checkpoints import video_checkpoint
from tests.tiny import command, environment


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_no_abort(tmp_path: Path) -> None:
    checkpoint = video_checkpoint(tmp_path / "a.ckpt")
    words = command("export", "--checkpoint", str(checkpoint), "-o", str(tmp_path / "m.pt2"))
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *words], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert done.stderr.splitlines()[-1].startswith("video-snl export: error:")
    assert not (tmp_path / "m.pt2").exists()
