"""The notebooks of the documentation run from an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import environment

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def run(*files: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "scripts" / "notebooks.py"), *map(str, files)]
    return subprocess.run(words, capture_output=True, text=True, env=environment())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(notebook: Path, tmp_path: Path) -> None:
    copy = tmp_path / notebook.name
    stored = json.loads(notebook.read_text(encoding="utf-8"))
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert stored["nbformat"] == 4 and any(cell["outputs"] for cell in code)  # it was run
    for cell in code:
        cell["outputs"] = []
    copy.write_text(json.dumps(stored), encoding="utf-8")
    done = run(copy)
    assert done.returncode == 0, done.stderr
    found = [c for c in json.loads(copy.read_text())["cells"] if c["cell_type"] == "code"]
    for before, after in zip(
        [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"],
        found,
        strict=True,
    ):
        assert bool(before["outputs"]) == bool(after["outputs"])


def test_a_cell_that_fails_leaves_its_notebook_as_it_was(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "code", "source": ["print(1)\n", "2 + 2"], "outputs": []},
        {"cell_type": "code", "source": ["1 / 0"], "outputs": []},
    ]
    wrong, right = tmp_path / "wrong.ipynb", tmp_path / "right.ipynb"
    wrong.write_text(json.dumps({"cells": cells}))
    right.write_text(json.dumps({"cells": cells[:1]}))
    before = wrong.read_bytes()
    done = run(wrong, right)
    assert done.returncode == 1 and "cell 2 of 2 failed" in done.stderr
    assert wrong.read_bytes() == before and not list(tmp_path.glob("*.partial"))
    printed, value = json.loads(right.read_text())["cells"][0]["outputs"]
    assert printed["text"] == ["1\n"] and value["data"] == {"text/plain": ["4"]}
