"""``video-snl export``: a checkpoint as a ``.pt2`` or ONNX file that needs nothing else."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from video_snl.blocks.filters import Cayley
from video_snl.config.task_spec import AnyExperiment
from video_snl.errors import UserError
from video_snl.export.checking import BOUND, Difference, check_equal, finite_logits, random_inputs
from video_snl.export.formats import FORMATS, OUTPUT, FormatName, format_of
from video_snl.export.graph import exported_graph
from video_snl.export.inputs import Input
from video_snl.export.latency import Form, compiled_form, eager_form, exported_form, table
from video_snl.export.networks import load_exported
from video_snl.export.samples import input_of, sample_of
from video_snl.runs.published import facts_of
from video_snl.runs.trained import Trained, find_trained
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, replacing, write_json, writing
from video_snl.utils.progress import counted

__all__ = ["Timing", "export", "record_graph"]

_NOT_FREE = "Constraints violated"
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Timing:
    """How the network is timed.

    Attributes:
        runs: Runs of every form of the network; 0 for no table.
        compiled: Compile the network by torch.compile, too.
    """

    runs: int
    compiled: bool


def export(
    *,
    checkpoint: str | None,
    format: FormatName | None,
    output: str | None,
    sample: str | None,
    dynamic: str,
    timing: Timing,
    as_json: bool,
) -> int:
    """Write the file, having compared it with the checkpoint's network, and report on both.

    Raises:
        UserError: The network has no such form, differs from the checkpoint's, or a path is bad.
    """
    name, path = _target(format, output)
    if timing.runs < 0:
        raise UserError(f"--runs {timing.runs}: give 0 or more.")
    check_file("-o", str(path), f"model{path.suffix}")
    FORMATS[name].check()
    trained = find_trained(checkpoint)
    _check_blocks(trained, name)
    given = input_of(trained, dynamic)
    inputs = list(random_inputs(given.trials()))
    if sample is not None:
        inputs.append(("given", sample_of(trained, Path(sample))))
        given.check(inputs[-1][1].shape)
    for what, x in inputs[:1] + inputs[-1:]:
        finite_logits(trained.model, what, x)  # recording takes much longer
    _tell("recording the network")
    graph, taken = record_graph(trained.model, given)
    if taken != given:
        _tell("it can be recorded for the sizes of the training and larger ones alone")
        given, inputs = taken, [*random_inputs(taken.trials()), *inputs[len(given.trials()) :]]
        for _, x in inputs:
            given.check(x.shape)
    about = facts_of(trained.stored, trained.spec) | {"input": given.facts()}
    differences: list[Difference] = []
    steps = _steps(trained, (name, path), (graph, about), inputs, differences)
    del graph
    with closing(steps):
        for _ in counted(steps, 1 + len(inputs), "export steps"):
            pass
    forms = _forms(trained, name, path, inputs[0][1], timing)
    report = _Report(path, name, trained, given, differences, forms, timing.runs)
    print(report.text())
    if as_json:
        write_json(path.with_name(f"{path.name}.json"), report.facts())
    return 0


def _target(asked: FormatName | None, output: str | None) -> tuple[FormatName, Path]:
    if output is None:
        name: FormatName = asked or "onnx"
        return name, Path(f"model{FORMATS[name].suffix}")
    path = Path(output)
    name = format_of(path)
    if asked not in (None, name):
        raise UserError(
            f"-o {output} is the name of a file of format {name}, --format asks for {asked}: give "
            f"a name that ends in {FORMATS[asked].suffix}."  # type: ignore[index]
        )
    if path.is_dir():
        raise UserError(
            f"-o {output} is a folder: give a file, such as {output}/model{path.suffix}"
        )
    return name, path


def _check_blocks(trained: Trained[AnyExperiment], name: FormatName) -> None:
    """Refuse up front what has no ONNX form."""
    if name == "onnx" and any(isinstance(m, Cayley) for m in trained.model.modules()):
        raise UserError(
            f"{trained.path} has Cayley filters: each solves a complex linear system, for which "
            "ONNX has no operator; export it with --format torch."
        )


def record_graph(network: nn.Module, given: Input) -> tuple[ExportedProgram, Input]:
    """Record a network's graph, free of as many sizes as torch can, and the input that it takes.

    Of some blocks (GroupNorm, products of lines) torch records that a map is longer than one
    position, as it may not be for the least sizes: their graphs take the sizes of the training and
    larger ones.

    Raises:
        UserError: torch cannot record the network with these axes free.
    """
    try:
        return exported_graph(network, given.example(), given.least()), given
    except Exception as error:  # of many kinds; it stays attached as the cause
        larger = given.from_trained_sizes()
        if larger != given and _NOT_FREE in str(error):
            return record_graph(network, larger)
        free = ", ".join(given.free) or "none"
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"torch.export cannot record this network with these free axes ({free}): "
            f"{type(error).__name__}: {line.strip()[:200]}; try fewer, such as --dynamic batch."
        ) from error


def _steps(
    trained: Trained[AnyExperiment],
    target: tuple[FormatName, Path],
    content: tuple[ExportedProgram, Mapping[str, Any]],
    inputs: list[tuple[str, Tensor]],
    differences: list[Difference],
) -> Generator[None, None, None]:
    """Write, and compare for every input; all ``differences`` are put into that list.

    The file is there only if what is read back from it computes the same.
    """
    name, path = target
    with writing("-o", str(path)), replacing(path) as temporary:
        _tell(f"writing {path}")
        FORMATS[name].write(*content, temporary)
        yield
        _tell(f"comparing it with the checkpoint on {counts(len(inputs), 'input')}")
        read = load_exported(temporary, trained.spec, _CPU)
        for each in inputs:
            differences.extend(check_equal(trained.model, read.model, [each]))
            yield


def _forms(
    trained: Trained[AnyExperiment], name: FormatName, path: Path, x: Tensor, timing: Timing
) -> list[Form]:
    if timing.runs == 0:
        return []
    _tell("timing")
    forms = [eager_form(trained.model, x, timing.runs)]
    if timing.compiled:
        _tell(
            "compiling by torch.compile, which may take a minute (--compiled false: leave it out)"
        )
        forms.append(compiled_form(trained.model, x, timing.runs))
    read = load_exported(path, trained.spec, _CPU)
    size = path.stat().st_size
    return [*forms, exported_form(read.model, FORMATS[name].runtime, size, x, timing.runs)]


def _tell(line: str) -> None:
    print(f"video-snl export: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Report:
    """What is said of the file: its differences from the checkpoint's network, and latencies.

    Attributes:
        runs: Number of runs whose median is the latency.
    """

    path: Path
    format: FormatName
    trained: Trained[AnyExperiment]
    given: Input
    differences: list[Difference]
    forms: list[Form]
    runs: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input that is timed."""
        return self.differences[0].shape

    def text(self) -> str:
        free = set(self.given.free)
        sizes = ["1", "3", *map(str, self.given.sizes)]
        axes = [
            name if name in free else f"{name}={size}"
            for name, size in zip(self.given.axes, sizes, strict=True)
        ]
        lines = [
            f"{self.path}: {FORMATS[self.format].runtime}, {self.path.stat().st_size / 1e6:.1f} MB",
            f"input: {self.given.name} ({', '.join(axes)}), float32, normalised; output: {OUTPUT}",
            f"largest difference from the checkpoint, of the largest logit (bound {BOUND:g}):",
        ]
        for found in self.differences:
            sizes_text = " x ".join(map(str, found.shape))
            lines.append(f"  {found.what:8}{sizes_text:24}{found.largest:.1e}")
        if self.forms:
            lines.append(table(self.forms, self.shape, self.runs))
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Plain values, for JSON; latencies in seconds, sizes in bytes."""
        return {
            "file": str(self.path),
            "format": self.format,
            "bytes": self.path.stat().st_size,
            "checkpoint": str(self.trained.path),
            "torch": torch.__version__,
            "input": self.given.facts(),
            "bound": BOUND,
            "differences": [found.facts() for found in self.differences],
            "timed_shape": list(self.shape),
            "runs": self.runs,
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "forms": [form.facts() for form in self.forms],
        }
