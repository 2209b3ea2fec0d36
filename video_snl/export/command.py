"""``video-snl export``: a checkpoint as a ``.pt2`` or ONNX file that needs nothing else.

The network is recorded as a graph, written, read back and compared with the checkpoint's. Then the
network as it is, the same compiled, and the file are timed.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from video_snl.blocks.filters import Cayley
from video_snl.config.task_spec import AnyExperiment, TaskSpec
from video_snl.errors import UserError
from video_snl.export.checking import BOUND, Difference, check_equal, finite_logits
from video_snl.export.formats import FORMATS, FormatName, Run, format_of
from video_snl.export.graph import exported_graph
from video_snl.export.inputs import Input, free_axes
from video_snl.export.networks import read_exported
from video_snl.runs.published import facts_of
from video_snl.runs.trained import TrainedNetwork
from video_snl.tasks.operations import Reading
from video_snl.tasks.preprocessing import Preprocessed
from video_snl.utils.counts import counts
from video_snl.utils.files import check_file, replacing, write_json, writing
from video_snl.utils.progress import counted

__all__ = [
    "Form",
    "Timing",
    "compiled_form",
    "eager_form",
    "export",
    "exported_form",
    "latency_table",
    "record_graph",
]

_NOT_FREE = "Constraints violated"
_CPU = torch.device("cpu")
_Inputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Timing:
    """Timing of the network.

    Attributes:
        runs: Runs of every form of the network; 0 for no table.
        compiled: Compile the network by torch.compile, too.
    """

    runs: int
    compiled: bool


def export(
    find: Callable[[], TrainedNetwork[AnyExperiment]],
    *,
    preprocessing: bool,
    format: FormatName | None,
    output: str | None,
    sample: str | None,
    dynamic: str,
    timing: Timing,
    as_json: bool,
) -> int:
    """Write the file, having compared it with the checkpoint's network, and report on both.

    Args:
        find: Loads the network, of any kind of task.
        preprocessing: The file takes decoded frames.

    Raises:
        UserError: The network has no such form, differs from the checkpoint's, or a path is bad.
    """
    name, path = _target(format, output)
    if timing.runs < 0:
        raise UserError(f"--runs {timing.runs}: give 0 or more.")
    check_file("-o", str(path), f"model{path.suffix}")
    FORMATS[name].check()
    trained = find()
    check_file("-o", str(path), f"model{path.suffix}", [str(trained.path)])
    _check_blocks(trained, name)
    inside = trained.spec.make().preprocessed(trained) if preprocessing else None
    given = _input_of(trained, dynamic, inside)
    network, reference = (
        (trained.model, trained.model) if inside is None else (inside.network, inside.reference)
    )
    inputs = given.random()
    if sample is not None:
        inputs.append(("given", _read_sample(trained, Path(sample), given)))
        given.check(inputs[-1][1][0].shape)
    for what, x in inputs[:1] + inputs[-1:]:
        finite_logits(reference, what, *x)  # recording takes much longer
    _tell(trained.spec, "recording the network")
    graph, taken = record_graph(network, given)
    if taken != given:
        line = "it can be recorded for the sizes of the training and larger ones alone"
        _tell(trained.spec, line)
        given, inputs = taken, [*taken.random(), *inputs[len(given.trials()) :]]
        for _, x in inputs:
            given.check(x[0].shape)
    about = facts_of(trained.stored, trained.spec) | {"input": given.facts()}
    differences: list[Difference] = []
    steps = _steps(trained.spec, reference, (name, path), (graph, about), inputs, differences)
    del graph
    with closing(steps):
        for _ in counted(steps, 1 + len(inputs), "export steps"):
            pass
    forms = _forms(network.eval(), trained.spec, name, path, inputs[0][1], timing)
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


def _check_blocks(trained: TrainedNetwork[AnyExperiment], name: FormatName) -> None:
    """Refuse up front what has no ONNX form."""
    if name == "onnx" and any(isinstance(m, Cayley) for m in trained.model.modules()):
        raise UserError(
            f"{trained.path} has Cayley filters: each solves a complex linear system, for which "
            "ONNX has no operator; export it with --format torch."
        )


def _input_of(
    trained: TrainedNetwork[AnyExperiment], dynamic: str, inside: Preprocessed | None
) -> Input:
    """Return the input of a checkpoint's network.

    Args:
        trained: The network.
        dynamic: Free axes, as for :func:`~video_snl.export.inputs.free_axes`.
        inside: The network with its preprocessing, if that is exported.
    """
    operations = trained.spec.make()
    sizes = operations.input_shape(trained.experiment)[1:]
    free = free_axes(dynamic, 2 + len(sizes))
    if trained.spec.inputs == "tracklets":
        name = "tracklets"
    else:
        name = "clips" if len(sizes) == 3 else "images"
    if inside is None:
        return Input(name, sizes, operations.smallest_input(trained.experiment), free)
    return Input(name, sizes, inside.smallest, free, pixels=True)


def _read_sample(
    trained: TrainedNetwork[AnyExperiment], path: Path, given: Input
) -> tuple[Tensor, ...]:
    """Return the centre of the centre clip of a video, or an image as it is tested.

    Of a tracklet as many frames as in training. Pixels, or normalised, as ``given`` is.

    Raises:
        UserError: It cannot be read.
    """
    if not (path.exists() if trained.spec.inputs == "tracklets" else path.is_file()):
        raise UserError(f"--input {path}: no such file.")
    operations = trained.spec.make()
    read = operations.reading(trained, Reading())
    name, item = operations.find_input(str(path), Reading())
    sample = operations.read_input(read, name, item, _CPU, option="--input")
    trained.model.eval()  # a task sets its network to training
    if not given.pixels:
        return (sample.clip.contiguous(),)
    frames = torch.from_numpy(sample.frames)
    return given.with_lengths(frames if given.name == "images" else frames[None])


def record_graph(network: nn.Module, given: Input) -> tuple[ExportedProgram, Input]:
    """Record a network's graph, free of as many sizes as torch can, and the input that it takes.

    Of some blocks (GroupNorm, products of lines) torch records that a map is longer than one
    position, as it may not be for the least sizes: their graphs take the sizes of the training and
    larger ones.

    Raises:
        UserError: torch cannot record the network with these axes free.
    """
    try:
        example, *lengths = given.example()
        return exported_graph(network, example, given.least(), *lengths), given
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
    spec: TaskSpec,
    reference: Callable[..., Tensor],
    target: tuple[FormatName, Path],
    content: tuple[ExportedProgram, Mapping[str, Any]],
    inputs: list[tuple[str, tuple[Tensor, ...]]],
    differences: list[Difference],
) -> Generator[None, None, None]:
    """Write, and compare for every input; all ``differences`` are put into that list.

    The file is there only if what is read back from it computes the same.
    """
    name, path = target
    with writing("-o", str(path)), replacing(path) as temporary:
        _tell(spec, f"writing {path}")
        FORMATS[name].write(*content, temporary)
        yield
        _tell(spec, f"comparing it with the checkpoint on {counts(len(inputs), 'input')}")
        read, _, _ = read_exported(temporary, spec, _CPU)
        for each in inputs:
            differences.extend(check_equal(reference, read, [each]))
            yield


def _forms(
    network: nn.Module,
    spec: TaskSpec,
    name: FormatName,
    path: Path,
    x: tuple[Tensor, ...],
    timing: Timing,
) -> list[Form]:
    if timing.runs == 0:
        return []
    _tell(spec, "timing")
    forms = [eager_form(network, x, timing.runs)]
    if timing.compiled:
        _tell(
            spec,
            "compiling by torch.compile, which may take a minute (--compiled false: leave it out)",
        )
        forms.append(compiled_form(network, x, timing.runs))
    read, _, _ = read_exported(path, spec, _CPU)
    size = path.stat().st_size
    return [*forms, exported_form(read, FORMATS[name].runtime, size, x, timing.runs)]


def _tell(spec: TaskSpec, line: str) -> None:
    print(f"{spec.command} export: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Form:
    """Form of a network.

    Attributes:
        name: ``eager``, ``compiled`` or ``exported``, and by what.
        size: Bytes of its weights, or of its file.
        latency: Median seconds for one input; None where it does not run here.
        note: Remark on it.
    """

    name: str
    size: int | None
    latency: float | None
    note: str = ""

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def eager_form(network: nn.Module, x: _Inputs, runs: int) -> Form:
    """Measure the checkpoint's network as it is."""
    weights = {*network.parameters(), *network.buffers()}
    size = sum(value.numel() * value.element_size() for value in weights)
    return Form("eager", size, _median(network, x, runs))


def compiled_form(network: nn.Module, x: _Inputs, runs: int) -> Form:
    """Measure the same, compiled by torch.compile; note how long that took, or why not."""
    torch._dynamo.reset()
    # A compiled call leaves traces on the module.
    compiled = torch.compile(copy.deepcopy(network))
    start = time.perf_counter()
    try:
        with torch.no_grad():
            compiled(*_tuple(x))
    except Exception as error:  # of any kind: compilers, their tools and their caches fail
        return Form("compiled", None, None, f"not possible: {_short(error)}")
    note = f"compiling took {time.perf_counter() - start:.1f} s"
    return Form("compiled", None, _median(compiled, x, runs), note)


def exported_form(run: Run, runtime: str, size: int, x: _Inputs, runs: int) -> Form:
    """Measure the file, in what runs it."""
    return Form(f"exported, {runtime}", size, _median(run, x, runs))


@torch.no_grad()
def _median(run: Run, given: _Inputs, runs: int) -> float:
    x = _tuple(given)
    run(*x)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run(*x)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _tuple(x: _Inputs) -> tuple[Tensor, ...]:
    return x if isinstance(x, tuple) else (x,)


def _short(error: Exception) -> str:
    """Return the innermost cause, in one line."""
    cause: BaseException = error
    while (inner := getattr(cause, "inner_exception", None) or cause.__cause__) is not None:
        cause = inner
    line = next((line for line in str(cause).splitlines() if line.strip()), "")
    return f"{type(cause).__name__}: {line.strip()[:120]}" if line else type(cause).__name__


def latency_table(forms: list[Form], shape: tuple[int, ...], runs: int) -> str:
    """Return the forms as text."""
    threads = torch.get_num_threads()
    sizes = " x ".join(map(str, shape))
    lines = [
        f"one input of {sizes}: median of {runs} runs on the CPU, {threads} "
        f"thread{'' if threads == 1 else 's'}",
        f"{'network':24} {'size':>10} {'latency':>10}",
    ]
    for form in forms:
        size = "-" if form.size is None else f"{form.size / 1e6:.1f} MB"
        latency = "-" if form.latency is None else f"{1e3 * form.latency:.1f} ms"
        lines.append(f"{form.name:24} {size:>10} {latency:>10}  {form.note}".rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class _Report:
    """Report on the file: its differences from the checkpoint's network, and latencies.

    Attributes:
        runs: Number of runs whose median is the latency.
    """

    path: Path
    format: FormatName
    trained: TrainedNetwork[AnyExperiment]
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
        grid = [name for name in self.given.axes if name not in ("batch", "channels")]
        sizes = {"batch": 1, "channels": 3} | dict(zip(grid, self.given.sizes, strict=True))
        axes = [name if name in free else f"{name}={sizes[name]}" for name in self.given.axes]
        kind = "uint8, decoded" if self.given.pixels else "float32, normalised"
        more = "".join(f"; {name} (batch), int64" for name in self.given.names[1:])
        lines = [
            f"{self.path}: {FORMATS[self.format].runtime}, {self.path.stat().st_size / 1e6:.1f} MB",
            f"input: {self.given.name} ({', '.join(axes)}), {kind}{more}; output: "
            f"{self.given.output}",
            f"largest difference from the checkpoint, of the largest "
            f"{self.given.output.removesuffix('s')} (bound {BOUND:g}):",
        ]
        for found in self.differences:
            sizes_text = " x ".join(map(str, found.shape))
            lines.append(f"  {found.what:8}{sizes_text:24}{found.largest:.1e}")
        if self.forms:
            lines.append(latency_table(self.forms, self.shape, self.runs))
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
