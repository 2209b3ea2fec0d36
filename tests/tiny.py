"""A training that takes seconds: three classes of grey videos and the small I3D at 32 pixels."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from video_snl.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent


def tiny_options(root: Path, output: Path, **overrides: Any) -> list[str]:
    """Options of ``video-snl train``; keys of ``overrides`` have ``__`` for the dot."""
    options: dict[str, Any] = {
        "data.dataset": "ucf101",
        "data.root": root,
        "data.short_side": 32,
        "data.crop": 32,
        "data.num_workers": 0,
        "optimizer.epochs": 3,
        "optimizer.batch_size": 6,
        "optimizer.learning_rate": 0.02,
        "trainer.output": output,
        "trainer.accelerator": "cpu",
        "trainer.loggers": "[csv]",
        "trainer.progress": "false",
    }
    return option_words(options, overrides)


def option_words(options: dict[str, Any], overrides: dict[str, Any]) -> list[str]:
    """Options as words, some of them overridden under keys that have ``__`` for the dot."""
    options = options | {name.replace("__", "."): value for name, value in overrides.items()}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def command(*words: str) -> list[str]:
    """The command line of ``video-snl`` in a process of its own."""
    return [sys.executable, "-m", "video_snl", *words]


def environment(**extra: str) -> dict[str, str]:
    """Return the environment with one thread a process: the tests share few cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **extra}


def run_command(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, env=environment(**extra), timeout=300
    )


def run_here(
    *words: str, main: Callable[[Sequence[str]], int] = main
) -> subprocess.CompletedProcess[str]:
    """A command in this process, which has loaded torch already."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def only_run(output: Path) -> Path:
    """The folder of the one run in ``output``."""
    [record] = output.glob("*/run.json")
    return record.parent


def metrics(run: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.csv`` without the seconds of loading, which no two runs share."""
    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        return [
            {name: float(value) for name, value in row.items() if not name.startswith("loading/")}
            for row in csv.DictReader(lines)
        ]


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text(encoding="utf-8"))
