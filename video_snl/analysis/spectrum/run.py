"""The command ``spectrum``: measure the blocks of a network on inputs and report their spectra."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from video_snl.analysis.model_input import analysis_input, block_inputs
from video_snl.analysis.spectrum.measure import BlockMeasurement, NetworkSpectra
from video_snl.analysis.spectrum.report import as_json, table, write_spectra
from video_snl.config.task_spec import TaskSpec
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.trained import load_trained
from video_snl.tasks.operations import Reading
from video_snl.utils.files import make_output_folder, writing
from video_snl.utils.json_text import to_json
from video_snl.utils.progress import counted

__all__ = ["SpectrumOptions", "spectrum"]


@dataclass(frozen=True)
class SpectrumOptions:
    """The options that all kinds of tasks share.

    Attributes:
        inputs: Number of inputs from the test list, where none are named.
        groups: Number of groups of output channels.
        largest: Number of rows of the largest matrix whose eigenvalues are computed.
        output: Folder for numbers and plots.
        as_json: True to print JSON instead of a table.

    Raises:
        UserError: A number is below 1.
    """

    inputs: int
    groups: int
    largest: int
    output: str | None
    as_json: bool

    def __post_init__(self) -> None:
        for option, value in (
            ("--inputs", self.inputs),
            ("--groups", self.groups),
            ("--max_size", self.largest),
        ):
            if value < 1:
                raise UserError(f"{option} {value}: give at least 1.")


def spectrum(
    paths: Sequence[str],
    spec: TaskSpec,
    options: SpectrumOptions,
    *,
    checkpoint: str | None,
    reading: Reading,
    accelerator: str,
) -> int:
    """Measure the blocks of a network on inputs and report the spectra.

    An input that cannot be read, or is not finite in the network, is one line on stderr.

    Args:
        paths: Files, or folders of them; none for some of the test list of the training.
        spec: Kind of task.
        options: Options of the measurement.
        checkpoint: File of the network.
        reading: Options of reading the files.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Returns:
        2 if an input could not be measured, else 0.

    Raises:
        UserError: The network has no blocks, or the folder cannot be written.
    """
    operations = spec.make()
    files = operations.find_inputs(paths, "spectrum", reading) if paths else []
    device = device_of(accelerator)
    if spec.inputs == "videos":
        start_forkserver()  # loads its modules while the network is made
    path = operations.find_checkpoint(checkpoint)
    trained = operations.reading(load_trained(path, spec), reading)
    inputs = files or operations.test_inputs(trained, options.inputs)
    blocks = operations.blocks(trained.model)
    if not blocks:
        raise UserError(
            f"{path} holds a network without blocks: there are no spectra to measure; name "
            "one that was trained with a block (--model.block snl)"
        )
    folder = None if options.output is None else make_output_folder("--output", options.output)
    name = operations.block_name(trained.experiment)
    measurements = {
        position: BlockMeasurement(
            position, name, block, largest=options.largest, groups=options.groups
        )
        for position, block in blocks.items()
    }
    measured: list[str] = []
    with closing(
        cast(Generator[tuple[str, Any]], counted(inputs, len(inputs), "inputs"))
    ) as counting:
        for source, item in counting:
            try:
                given = block_inputs(analysis_input(trained, source, item, device))
                found = {at: measurements[at].measure(source, x) for at, x in given.items()}
            except UserError as error:
                print(f"{spec.command} spectrum: error: {error}", file=sys.stderr, flush=True)
                continue
            # All blocks or none, so that every block has the same inputs.
            measured.append(source)
            for position, spectra in found.items():
                measurements[position].add(spectra)
    if measured:
        results = [measurement.result() for measurement in measurements.values()]
        _report(NetworkSpectra(str(path), measured, results), folder, options.as_json)
    return 0 if len(measured) == len(inputs) else 2


def _report(spectra: NetworkSpectra, folder: Path | None, print_json: bool) -> None:
    if folder is not None:
        with writing("--output", str(folder)):
            write_spectra(folder, spectra)
    if print_json:
        print(to_json(as_json(spectra), indent=2, finite=True))
        return
    print(table(spectra))
    if folder is not None:
        print(f"numbers and plots: {folder}")
