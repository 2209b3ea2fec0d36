"""Fixtures that the tests of tables share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from video_snl.tables import jobs

STAND_IN = Path(__file__).parent / "stand_in.py"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are done by the stand-in; the table's processes inherit the rest."""
    monkeypatch.setattr(jobs, "_PROGRAM", (sys.executable, str(STAND_IN)))
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
