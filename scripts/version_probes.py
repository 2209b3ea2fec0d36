#!/usr/bin/env python
"""Ask one checkout what it computes; started by compare_versions.py, once for each version.

    python scripts/version_probes.py CHECKOUT WORLD VALUES PART... [--stopper]

The checkout comes first in PYTHONPATH, the working folder is an empty one. Only public names and
the commands are used, since the modules behind them differ from version to version. VALUES is a
folder: PART.pickle is a dictionary of the values of the part's probes by name. A probe that raises
leaves a :class:`Failed` in the place of its value. PROBES_MATCH in the environment names some.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import io
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

__all__ = ["PARTS", "Failed", "Probes", "block_values", "options_of"]

Values = dict[str, Any]

GATES = ("se", "ge", "gc", "cgd")
BLOCKS = (
    *("nl", "ns", "a2", "cgnl", "cc", "dnl", "snl", "snl_a1", "snl_a2", "gsnl", "cayley"),
    *GATES,
)
# Options beside the defaults, in three dimensions.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {"num_units": 2}) for name in BLOCKS if name not in GATES),
    *((name, {"activation": "relu"}) for name in BLOCKS if name not in GATES),
    *((name, {"inter_channels": 2}) for name in BLOCKS if name not in GATES),
    *(("nl", {"kernel": kernel}) for kernel in ("relu_dot", "dot", "gaussian")),
    *(("snl", {"kernel": kernel}) for kernel in ("embedded_gaussian", "gaussian")),
    ("nl", {"pool": 2}),
    ("nl", {"scaled": True}),
    ("dnl", {"scaled": True}),
    ("cgnl", {"groups": 2, "order": 3, "normalization": "rw"}),
    ("cc", {"recurrence": 2}),
    ("gsnl", {"order": 0}),
    ("gsnl", {"order": 4}),
    ("gsnl", {"order": 3, "normalization": "rw"}),
    ("cayley", {"order": 3}),
]
# Of JSON and of reports: what no two runs share.
_VOLATILE = re.compile(r"seconds|minutes|sha256|created|date|version|latency|hostname|git|size")

_COMMON = {
    "trainer.accelerator": "cpu",
    "trainer.loggers": "[csv]",
    "trainer.progress": "false",
    "optimizer.epochs": 2,
}
_VIDEO = {
    "data.dataset": "folder",
    "data.root": "WORLD/videos",
    "data.short_side": 32,
    "data.crop": 32,
    "data.num_workers": 0,
    "optimizer.batch_size": 6,
    "optimizer.learning_rate": 0.02,
}
_IMAGE = {
    "data.dataset": "digits",
    "optimizer.epoch_steps": 4,
    "optimizer.batch_size": 16,
    "optimizer.test_batch_size": 64,
    "optimizer.learning_rate": 0.02,
}
_FRAMES = {"data.frames": 2, "data.height": 32, "data.width": 16, "optimizer.validate_every": 1}
# Tiny trainings: the program, and its options beside those of _COMMON.
TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "video": ("video_snl", {**_VIDEO, "data.num_workers": 2}),
    "video, augmented": (
        "video_snl",
        {
            **_VIDEO,
            "data.crop_scales": "[1, 0.875, 0.75]",
            "data.color_jitter": 0.3,
            "data.hue_jitter": 0.1,
            "data.rand_augment": 2,
            "data.sampling": "uniform",
            "model.block": "nl",
            "model.dropout": 0.3,
            "optimizer.mixup": 0.4,
            "optimizer.cutmix": 0.5,
            "optimizer.accumulate": 2,
            "optimizer.ema_decay": 0.9,
            "optimizer.label_smoothing": 0.1,
            "optimizer.gradient_clip": 1.0,
            "optimizer.warmup_epochs": 1,
        },
    ),
    "image": ("video_snl", _IMAGE),
    "image files, augmented": (
        "video_snl",
        {
            **_IMAGE,
            "data.dataset": "folder",
            "data.root": "WORLD/images",
            "data.training_crop": "resized",
            "data.flip": "true",
            "data.color_jitter": 0.3,
            "data.hue_jitter": 0.1,
            "data.rand_augment": 2,
            "data.num_workers": 2,
            "model.backbone": "preresnet20",
            "model.block": "gsnl",
            "optimizer.epoch_steps": 2,
            "optimizer.batch_size": 4,
        },
    ),
    "segmentation": (
        "video_snl",
        {
            "data.dataset": "cityscapes",
            "data.root": "WORLD/cityscapes",
            "data.height": 32,
            "data.width": 32,
            "data.num_workers": 0,
            "model.backbone": "fcn_r50_d8",
            "optimizer.epochs": 1,
            "optimizer.epoch_steps": 2,
            "optimizer.batch_size": 2,
            "optimizer.test_batch_size": 1,
        },
    ),
    "reid": ("reid", {**_FRAMES, "data.num_workers": 2, "optimizer.epochs": 1}),
    "reid, small": (
        "reid",
        {
            **_FRAMES,
            "data.dataset": "folder",
            "data.root": "WORLD/people",
            "data.identities": 2,
            "data.tracklets": 2,
            "data.num_workers": 0,
            "optimizer.center_weight": 0.001,
        },
    ),
}
# Those that OLD is stopped in, in their second epoch or later; and one that it finishes.
STOPPED = ("video", "image", "reid, small")
FINISHED = "segmentation"


@dataclass(frozen=True)
class Failed:
    """Stands for the value of a probe that raised."""

    reason: str


@dataclass
class Said:
    """Exit code and output of a command."""

    code: int
    out: str
    errors: str

    def json(self) -> Any:
        if self.code:
            raise RuntimeError(f"exit code {self.code}: {self.errors.strip()[-400:]}")
        return json.loads(self.out)


class Probes:
    """Probes of all parts for one checkout.

    Args:
        checkout: Root of the checkout.
        world: Folder with the files that both versions read; see compare_versions.py.
        stopper: Makes the runs of which the other version trains on, in ``WORLD/stopped``.
    """

    def __init__(self, checkout: Path, world: Path, *, stopper: bool = False) -> None:
        self.checkout, self.world, self.stopper = checkout, world, stopper
        self.here = Path.cwd()
        self.programs = {}
        for name in ("video_snl", "reid"):
            found = importlib.import_module(f"{name}.cli")
            if not Path(str(found.__file__)).is_relative_to(checkout):
                raise RuntimeError(f"{name} was imported from {found.__file__}, not {checkout}")
            self.programs[name] = found.main

    def run(self, program: str, *words: object) -> Said:
        """Run a command of ``video_snl`` or ``reid`` in this process, which has loaded torch."""
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                code = self.programs[program]([str(word) for word in words])
            except SystemExit as stopped:
                code = int(stopped.code or 0)
        return Said(code, out.getvalue(), errors.getvalue())

    def done(self, program: str, *words: object) -> str:
        """Run a command that must not fail, and return its output."""
        said = self.run(program, *words)
        if said.code:
            raise RuntimeError(f"{program} {words}: exit code {said.code}: {said.errors[-600:]}")
        return said.out

    # --- networks ---

    def networks(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield parameters and multiply-adds of every configuration."""
        root = self.checkout / "configs"
        for path in sorted(root.glob("*/*.yaml")):
            yield str(path.relative_to(root)), partial(self._description, path)

    def _description(self, path: Path) -> Any:
        program = "reid" if path.parent.name == "reid" else "video_snl"
        words = ["describe", "--config", path, "--json"]
        said = self.run(program, *words)
        if said.code == 2:  # own images, whose classes are in the folder
            said = self.run(program, *words, "--model.num_classes", 10)
        return self._plain(said.json())

    # --- losses ---

    def losses(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield the metrics of every epoch, and the weights after the last one."""
        for name in TRAININGS:
            yield name, partial(self._losses, name)
        yield "the sample of reid", lambda: _digests(_folder(self.here / "cache", "reid-sample-v1"))

    def _losses(self, name: str) -> Values:
        return _trained(self.run_of(name))

    def run_of(self, name: str) -> Path:
        """Return the run of a tiny training, which is made on first use."""
        run = self.here / "runs" / name.replace(", ", "-").replace(" ", "-")
        if not run.exists():
            self.train(name, run)
        return run

    def train(self, name: str, run: Path, stop: bool = False) -> None:
        """Train into the folder ``run``; with ``stop``, until it is interrupted."""
        program, options = TRAININGS[name]
        output = run.with_name(f"{run.name}-output")
        options = {**_COMMON, **options, "trainer.output": output}
        if stop:
            options["optimizer.epochs"] = 5
        values = [
            word
            for option, value in options.items()
            for word in (f"--{option}", str(value).replace("WORLD", str(self.world)))
        ]
        with _interruption(output) if stop else contextlib.nullcontext():
            said = self.run(program, "train", *values)
        if said.code != (130 if stop else 0):
            raise RuntimeError(f"training {name}: exit code {said.code}: {said.errors[-800:]}")
        [record] = output.glob("*/run.json")
        shutil.move(record.parent, run)

    # --- blocks ---

    def blocks(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield weights as drawn, outputs and gradients of every block, and of the inserted one."""
        cases: list[tuple[str, int, dict[str, Any]]]
        cases = [(name, ndim, {}) for name in BLOCKS for ndim in (1, 2, 3)]
        cases += [(name, 3, options) for name, options in VARIANTS]
        for name, ndim, options in cases:
            words = "".join(f", {key}={value}" for key, value in options.items())
            yield f"{name} {ndim}d{words}", partial(block_values, name, ndim, **options)
        yield "insert_blocks", _inserted

    # --- ranking ---

    def ranking(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield figures of random features by every protocol, re-ranked ones, and a run's."""
        yield from _rankings()
        yield "reid evaluate", lambda: self._evaluated("reid", self.run_of("reid"), "--rerank")

    def _evaluated(self, program: str, run: Path, *words: object) -> Any:
        report = self.here / "reports" / run.name
        words = ("--checkpoint", run, "--data.num_workers", 0, *words)
        if program == "reid":
            found = self._plain(
                self.run(program, "evaluate", *words, "--report", report, "--json").json()
            )
        else:
            self.done(program, "evaluate", *words, "--output", report)
            found = self._plain(json.loads((report / "metrics.json").read_text("utf-8")))
        return {"figures": found, "files": sorted(os.listdir(report)), "tables": _tables(report)}

    # --- help ---

    def help(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield every option of every command, and the values of options that are not given."""
        image = self.checkout / "configs" / "digits" / "preresnet20_snl.yaml"
        for program in self.programs:
            text = self.run(program, "--help").out
            commands = re.search(r"\{([a-z,]+)\}", text)
            assert commands is not None, text
            names = commands[1].split(",")
            yield f"{program}: commands", partial(dict.fromkeys, names, True)
            for name in names:
                yield f"{program} {name}", partial(self._options, program, name)
                if program == "video_snl" and name in ("train", "evaluate", "describe"):
                    yield (
                        f"{program} {name}, images",
                        partial(self._options, program, name, "--config", image),
                    )
        for name, words in {
            "video_snl": (),
            "video_snl, images": ("--config", image),
            "reid": (),
        }.items():
            program = name.split(",")[0]
            if "train" in self.run(program, "--help").out:
                yield (
                    f"{name}: defaults",
                    partial(self._defaults, program, *words),
                )

    def _defaults(self, program: str, *words: object) -> Any:
        return yaml.safe_load(self.done(program, "train", *words, "--print_config"))

    def _options(self, *words: object) -> dict[str, str]:
        everything = options_of(self.run(*words, "--help", "all").out)  # type: ignore[arg-type]
        return options_of(self.run(*words, "--help").out) | everything  # type: ignore[arg-type]

    # --- commands ---

    def commands(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Exit codes of good and bad input, and what the commands print as JSON."""
        for name, words in self._bad().items():
            yield f"exit code: {name}", partial(self._code, *words)
        yield from self._good()

    def _code(self, *words: Any) -> int:
        return self.run(*words).code

    def _json(self, *words: Any) -> Any:
        return self._plain(self.run(*words).json())

    def _bad(self) -> dict[str, tuple[Any, ...]]:
        videos, broken = self.world / "videos" / "test", self.world / "broken.mp4"
        snl, reid, run = "video_snl", "reid", self.run_of("video")
        names = {
            name: run for name, run in (("video_snl", run), ("reid", self.run_of("reid, small")))
        }
        everywhere: dict[str, tuple[Any, ...]] = {}
        for program, checkpoint in names.items():
            everywhere |= {
                f"{program}": (program,),
                f"{program} --version": (program, "--version"),
                f"{program}: an unknown command": (program, "dance"),
                f"{program}: an unknown option": (program, "describe", "--model.colour", "red"),
                f"{program}: an unknown block": (program, "describe", "--model.block", "nope"),
                f"{program}: a bad number": (program, "train", "--optimizer.epochs", "-1"),
                f"{program}: no number": (program, "train", "--optimizer.epochs", "many"),
                f"{program}: no such config": (program, "train", "--config", "missing.yaml"),
                f"{program}: no such run": (program, "train", "--resume", "missing"),
                f"{program}: another seed": (
                    *(program, "train", "--resume", checkpoint, "--trainer.seed", 7),
                ),
                f"{program}: no such checkpoint": (program, "evaluate", "--checkpoint", "missing"),
                f"{program}: a broken checkpoint": (program, "evaluate", "--checkpoint", broken),
                f"{program}: no such data": (
                    *(program, "train", "--data.dataset", "folder", "--data.root", "missing"),
                ),
                f"{program}: publish into a folder with files": (
                    *(program, "publish", "--checkpoint", checkpoint, "-o", self.world),
                ),
            }
        ask = (snl, "predict", "--checkpoint", run)
        return everywhere | {
            "predict, a broken file": (*ask, broken),
            "predict, a broken and a good file": (*ask, broken, videos),
            "predict, no such file": (*ask, "missing.mp4"),
            "predict, top 0": (*ask, "--top", 0, videos),
            "predict, a bad window": (*ask, "--window", "long", videos),
            "predict, a checkpoint of reid": (
                *(snl, "predict", "--checkpoint", self.run_of("reid, small"), videos),
            ),
            "predict, images of a video network": (*ask, self.world / "images" / "test"),
            "check, a broken file": (snl, "check", "--root", self.world / "damaged"),
            "export, an unknown format": (snl, "export", "--checkpoint", run, "--format", "tar"),
            "table, dry": (
                *(snl, "table", 5, "--dataset", "digits", "--dry-run"),
                *("--configs", self.checkout / "configs"),
            ),
            "table, no such number": (snl, "table", 99),
            "search, no such gallery": (
                *(reid, "search", self.world / "people" / "query", "--gallery", "missing.parquet"),
            ),
            "check, no such data": (reid, "check", "--dataset", "mars", "--root", "missing"),
            "evaluate, a run of videos": (reid, "evaluate", "--checkpoint", run),
        }

    def _good(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        people, videos = self.world / "people", self.world / "videos"
        video, image, small = map(self.run_of, ("video", "image files, augmented", "reid, small"))
        ask = ("predict", "--checkpoint", video, "--json")
        checked = ("check", "--root", videos, "--dataset", "folder", "--clip_frames", 4, "--json")
        json_of = {
            "predict": ("video_snl", *ask, videos / "test"),
            "predict, windows": (
                "video_snl",
                *ask,
                "--window",
                "6f",
                "--hop",
                "3f",
                videos / "test",
            ),
            "predict, views": ("video_snl", *ask, "--clips", 3, "--crops", 1, "--top", 2, videos),
            "predict, images": (
                *("video_snl", "predict", "--checkpoint", image, "--json"),
                self.world / "images" / "test",
            ),
            "predict, segmentation": (
                *("video_snl", "predict", "--checkpoint", self.run_of("segmentation"), "--json"),
                self.world / "cityscapes" / "leftImg8bit" / "val",
            ),
            "check": ("video_snl", *checked),
            "spectrum": (
                *("video_snl", "spectrum", "--checkpoint", video, "--inputs", 1, "--json"),
                *("-o", "spectrum"),
            ),
            "reid check": ("reid", "check", "--dataset", "folder", "--root", people, "--json"),
            "reid spectrum": (
                *("reid", "spectrum", "--checkpoint", self.run_of("reid"), "--inputs", 1),
                *("--json", "-o", "reid-spectrum"),
            ),
        }
        for name, words in json_of.items():
            yield name, partial(self._json, *words)
        for name in ("video", "image", "segmentation"):
            yield f"evaluate, {name}", partial(self._evaluated, "video_snl", self.run_of(name))
        yield "reid extract and search", lambda: self._searched(small, people)
        yield "reid evaluate", lambda: self._evaluated("reid", small, "--test_frames", 2)
        yield (
            "explain",
            lambda: self._explained("video_snl", video, videos / "test" / "a" / "0.avi"),
        )
        yield (
            "reid explain",
            lambda: self._explained(
                "reid", self.run_of("reid"), people / "query" / "101" / "c0" / "t0"
            ),
        )
        yield "run", lambda: self._record(video)
        yield "reid run", lambda: self._record(small)

    def _searched(self, run: Path, people: Path) -> Any:
        import pyarrow.parquet as parquet

        which = ("--checkpoint", run)
        layout = ("--layout", "folder")
        self.done(*("reid", "extract", *which, people / "gallery", "-o", "g.parquet", *layout))
        words = (*which, "--gallery", "g.parquet", "--json", *layout)
        table = parquet.read_table("g.parquet")
        return {
            "columns": {field.name: str(field.type) for field in table.schema},
            "features": self._plain(table.to_pydict()),
            "found": self._plain(self.run("reid", "search", people / "query", *words).json()),
        }

    def _explained(self, program: str, run: Path, path: Path) -> Any:
        import numpy as np

        folder = self.here / f"{program}-explained"
        self.done(program, "explain", "--checkpoint", run, "-o", folder, path)
        with np.load(folder / "maps.npz") as maps:
            arrays = {name: maps[name] for name in maps.files}
        explanation = json.loads((folder / "explanation.json").read_text("utf-8"))
        numbers = {name: array for name, array in arrays.items() if array.dtype.kind in "iuf"}
        files = {name: True for name in sorted(os.listdir(folder))}
        return {"maps": numbers, "said": self._plain(explanation), "files": files}

    def _record(self, run: Path) -> Any:
        record = json.loads((run / "run.json").read_text("utf-8"))
        # Packages, times and places: their names.
        kept = {name: record.get(name) for name in ("status", "finished_epochs", "lists")}
        files = {str(path.relative_to(run)): True for path in sorted(run.rglob("*"))}
        return {"keys": dict.fromkeys(record, True), "values": kept, "files": files}

    # --- resume ---

    def resume(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield stopped runs of OLD trained on; its checkpoints evaluated, exported, published."""
        stopped = self.world / "stopped"
        if self.stopper and not (stopped / "ready").exists():
            shutil.rmtree(stopped)
            stopped.mkdir()
            try:
                for name in (*STOPPED, FINISHED):
                    self.train(name, stopped / name.replace(", ", "-"), stop=name != FINISHED)
            except BaseException:
                (stopped / "failed").touch()
                raise
            (stopped / "ready").touch()
        while not (stopped / "ready").exists():
            if (stopped / "failed").exists():
                raise RuntimeError("OLD made no stopped runs: see its own values")
            time.sleep(0.2)
        for name in (*STOPPED, FINISHED):
            program = TRAININGS[name][0]
            old = self.here / "old" / name.replace(", ", "-")
            shutil.copytree(stopped / old.name, old)
            if name != FINISHED:
                yield f"{name}: resumed", partial(self._resumed, program, old)
            before = self.here / "before" / old.name
            shutil.copytree(stopped / old.name, before)
            yield f"{name}: evaluated", partial(self._evaluated, program, before)
            yield f"{name}: published", partial(self._published, name, before)
            if program == "video_snl":
                yield f"{name}: predicted", partial(self._predicted, name, before)
        run = self.here / "before" / "video"
        for kind in ("pt2", "onnx"):
            yield f"video: exported to {kind}", partial(self._exported, run, kind)

    def _resumed(self, program: str, run: Path) -> Any:
        said = self.run(program, "train", "--resume", run)
        if said.code:
            raise RuntimeError(f"--resume {run}: exit code {said.code}: {said.errors[-800:]}")
        return _trained(run)

    def _published(self, name: str, run: Path) -> Any:
        from safetensors.numpy import load_file

        program, options = TRAININGS[name]
        # A published folder does not say where the data is.
        root = str(options.get("data.root", "")).replace("WORLD", str(self.world))
        folder = self.here / "published" / run.name
        folder.parent.mkdir(exist_ok=True)
        self.done(program, "publish", "--checkpoint", run, "-o", folder)
        evaluated = self._evaluated(program, folder, *(("--data.root", root) if root else ()))
        return {
            "weights": load_file(folder / "model.safetensors"),
            "config": self._plain(json.loads((folder / "config.json").read_text("utf-8"))),
            "files": dict.fromkeys(sorted(os.listdir(folder)), True),
            "figures": evaluated["figures"],
        }

    def _predicted(self, name: str, run: Path) -> Any:
        paths = {
            "video": self.world / "videos" / "test",
            "image": self.world / "images" / "test",
            "segmentation": self.world / "cityscapes" / "leftImg8bit" / "val",
        }
        said = self.run("video_snl", "predict", "--checkpoint", run, "--json", paths[name])
        return self._plain(said.json())

    def _exported(self, run: Path, kind: str) -> Any:
        file = self.here / f"exported.{kind}"
        quick = ("--runs", 0, "--compiled", "false", "--dynamic", "none")
        self.done("video_snl", "export", "--checkpoint", run, "-o", file, *quick)
        videos = self.world / "videos" / "test"
        said = self.run("video_snl", "predict", "--model", file, "--json", videos)
        return self._plain(said.json())

    # --- help of all ---

    def _plain(self, value: Any) -> Any:
        """Return JSON without what differs between runs, and without the scratch folder."""
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if not _VOLATILE.search(str(k))}
            return {str(k).replace(f"{self.here}/", ""): self._plain(v) for k, v in kept.items()}
        if isinstance(value, list):
            return [self._plain(entry) for entry in value]
        if isinstance(value, str):
            return value.replace(f"{self.here}/", "")
        return value


def options_of(text: str) -> dict[str, str]:
    """Parse the options in a help text: all that is said of each, under its long name."""
    found: dict[str, str] = {}
    entry: list[str] = []
    for line in text.splitlines():
        if re.match(r" {1,8}-", line) and not line.lstrip().startswith("- "):
            names = re.findall(r"(?<![\w.-])--?[A-Za-z][\w.-]*\+?", line.split("   ")[0])
            entry = [line]
            for name in names:
                found[name] = line
            current = names
        elif entry and re.match(r" {9,}\S", line):
            for name in current:
                found[name] += "\n" + line
        elif line.strip():
            entry = []
    return found


def block_values(name: str, ndim: int, **options: Any) -> Values:
    """Return drawn weights, output, and gradients of input and weights, float64."""
    import torch

    from video_snl import make_block

    torch.manual_seed(0)
    grid = {1: (12,), 2: (3, 5), 3: (2, 4, 5)}[ndim]
    block = make_block(name, 8, ndim=ndim, zero_init=False, **options).double()
    at_start = make_block(name, 8, ndim=ndim, **_without_activation(options))
    drawn = {key: value.detach().numpy().copy() for key, value in block.state_dict().items()}
    x = torch.randn(2, 8, *grid, dtype=torch.float64, requires_grad=True)
    output = block(x)
    (output * torch.randn_like(output)).sum().backward()
    gradients = {
        key: None if value.grad is None else value.grad.numpy()
        for key, value in block.named_parameters()
    }
    block.eval()
    assert x.grad is not None
    return {
        "weights": drawn,
        "names": [f"{key} {tuple(value.shape)}" for key, value in at_start.state_dict().items()],
        "zero_init": {key: value.numpy() for key, value in at_start.state_dict().items()},
        "class": type(block).__name__,
        "output": output.detach().numpy(),
        "input gradient": x.grad.numpy(),
        "gradients": gradients,
        "evaluated": block(x).detach().numpy(),
    }


def _without_activation(options: Values) -> Values:
    return {key: value for key, value in options.items() if key != "activation"}


def _inserted() -> Values:
    import torch
    from torchvision.models import resnet18

    from video_snl import insert_blocks

    torch.manual_seed(0)
    network = resnet18(num_classes=5)
    torch.manual_seed(1)
    blocks = insert_blocks(network, "snl", ["before:layer2.1", "after:layer3.0"], zero_init=False)
    network.eval()
    with torch.no_grad():
        output = network(torch.randn(2, 3, 64, 64))
    return {
        "blocks": [type(block).__name__ for block in blocks],
        "names": list(network.state_dict()),
        "output": output.numpy(),
    }


def _rankings() -> Iterator[tuple[str, Callable[[], Any]]]:
    import torch

    import reid

    generator = torch.Generator().manual_seed(0)
    queries, entries = 60, 400
    features = {
        name: torch.randn(count, 32, generator=generator, dtype=torch.float64)
        for name, count in (("query", queries), ("gallery", entries))
    }

    def draw(high: int, count: int, low: int = 0) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    labels = draw(25, queries, 1), draw(25, entries, -1), draw(4, queries), draw(4, entries)
    distances = torch.cdist(features["query"], features["gallery"])
    coarse = distances.mul(4).round()  # with many ties
    both = features["query"], features["gallery"]

    def ranked(evaluate: Callable[..., object], *given: Any, **options: Any) -> Values:
        return _fields(evaluate(*given, **options))

    def reranked(*given: Any, **options: Any) -> Any:
        rerank = _named("reid.metrics.rerank", "reid.rerank").rerank
        return rerank(*given, **options).numpy()

    protocols, cameras = ("common", "official", "queries-kept"), ("cross", "ignore")
    for protocol, camera in itertools.product(protocols, cameras):
        options = {"protocol": protocol, "cameras": camera}
        for name, matrix in (("distances", distances), ("ties", coarse)):
            yield (
                f"evaluate_ranking, {name}, {protocol}, {camera}",
                partial(ranked, reid.evaluate_ranking, matrix, *labels, **options),
            )
        for metric in ("cosine", "euclidean"):
            yield (
                f"evaluate_features, {metric}, {protocol}, {camera}",
                partial(ranked, reid.evaluate_features, *both, *labels, metric=metric, **options),
            )
    for k1, k2 in ((20, 6), (5, 1)):
        yield (
            f"rerank, k1={k1}, k2={k2}",
            partial(reranked, *both, k1=k1, k2=k2),
        )


def _named(*names: str) -> Any:
    """Import the first of these documented paths that exists."""
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise ModuleNotFoundError(" or ".join(names))


def _fields(result: object) -> Values:
    """Return the attributes of a result that are numbers, text or tensors."""
    found = {}
    for name in dir(result):
        value = getattr(result, name)
        if name.startswith("_") or callable(value):
            continue
        found[name] = value.numpy() if hasattr(value, "numpy") else value
    return found


def _trained(run: Path) -> Values:
    """Return the metrics of every epoch but the seconds of loading, and the last weights."""
    import torch

    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    metrics = [
        {
            name: float(value) if value else None
            for name, value in row.items()
            if "loading/" not in name
        }
        for row in rows
    ]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    return {
        "metrics": metrics,
        "weights": {name: value.numpy() for name, value in last["state_dict"].items()},
        "checkpoint": dict.fromkeys(last, True),
    }


def _tables(folder: Path) -> Values:
    """Return the cells of all CSV files, numbers as such."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            found[path.name] = [[_number(cell) for cell in row] for row in csv.reader(lines)]
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.replace(f"{Path.cwd()}/", "")


def _folder(root: Path, name: str) -> Path:
    [found] = root.rglob(name)
    return found


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def _interruption(output: Path) -> Iterator[None]:
    """Send Ctrl-C to this process as soon as the run below ``output`` has finished an epoch."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for record in output.glob("*/run.json"):
                with contextlib.suppress(ValueError, OSError):
                    if json.loads(record.read_text("utf-8")).get("finished_epochs", 0) >= 1:
                        os.kill(os.getpid(), signal.SIGINT)
                        return

    # A shell starts what it runs in the background with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


PARTS = ("networks", "losses", "blocks", "ranking", "help", "commands", "resume")


def answer(probes: Probes, part: str) -> Values:
    """Return the values of the probes of one part; how long it took goes to stderr."""
    values: Values = {}
    began = time.monotonic()
    match = re.compile(os.environ.get("PROBES_MATCH", ""))
    try:
        for name, probe in getattr(probes, part)():
            if match.search(name):
                values[name] = _answer(probe)
    except Exception as error:  # of what the probes of a part have in common
        values["all"] = Failed(_reason(error))
    seconds = time.monotonic() - began
    print(f"{part}: {len(values)} probes, {seconds:.0f} s", file=sys.stderr, flush=True)
    return values


def _answer(probe: Callable[[], Any]) -> Any:
    try:
        return probe()
    except Exception as error:  # of any kind: it is the value that is compared
        return Failed(_reason(error))


def _reason(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"


def main(arguments: Sequence[str]) -> int:
    checkout, world, folder = map(Path, arguments[:3])
    probes = Probes(checkout, world, stopper="--stopper" in arguments)
    for part in arguments[3:]:
        if part != "--stopper":
            unfinished = folder / f".{part}.unfinished"
            unfinished.write_bytes(pickle.dumps(answer(probes, part)))
            unfinished.rename(folder / f"{part}.pickle")
    return 0


if __name__ == "__main__":
    # By its name, so that what is pickled is not of a module called __main__.
    sys.exit(importlib.import_module("version_probes").main(sys.argv[1:]))
