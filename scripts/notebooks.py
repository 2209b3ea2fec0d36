#!/usr/bin/env python
"""Run the cells of notebooks in order, and store what they print and show.

    python scripts/notebooks.py docs/notebooks/*.ipynb

Each notebook runs in a process of its own, in an empty folder. What goes to stderr is left out. No
Jupyter is needed. Exit code 1: a cell raised an error, and its notebook is as it was.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from video_snl.utils.json_text import to_json


def main(files: list[str]) -> int:
    if not files:
        raise SystemExit(__doc__)
    if files[0] == "--here":
        return _in_this_process(Path(files[1]))
    code = 0
    for file in files:
        words = [sys.executable, __file__, "--here", str(Path(file).absolute())]
        with tempfile.TemporaryDirectory() as folder:
            code = max(code, subprocess.run(words, cwd=folder).returncode)
    return code


def _in_this_process(file: Path) -> int:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        try:
            cell["outputs"] = _outputs("".join(cell["source"]), names, number)
        except Exception:  # whatever a cell raises is shown, and ends this notebook
            traceback.print_exc()
            print(f"{file}: cell {number} of {len(cells)} failed", file=sys.stderr)
            return 1
        cell["execution_count"] = number
    new = file.with_suffix(".partial")
    new.write_text(f"{to_json(notebook, indent=1)}\n", encoding="utf-8")
    os.replace(new, file)
    return 0


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run a cell, and return what it prints and the value of its last line."""
    tree, last = ast.parse(source), None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {number}>", "exec"), names)
        value = None if last is None else eval(compile(last, f"<cell {number}>", "eval"), names)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(True)
        found.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(True)}
        found.append(
            {
                "data": data,
                "execution_count": number,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
