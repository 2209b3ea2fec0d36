"""``spectrum``: the blocks of a network on the spectra of their graphs."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from video_snl.analysis.model_input import analysis_input, block_inputs
from video_snl.analysis.spectrum.measure import measures
from video_snl.analysis.spectrum.numbers import as_json
from video_snl.analysis.spectrum.output import write_spectra
from video_snl.analysis.spectrum.structure import Measured
from video_snl.analysis.spectrum.table import table
from video_snl.config.task_spec import TaskSpec
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.trained import load_trained
from video_snl.tasks.operations import Operations, Reading
from video_snl.utils.files import check_folder
from video_snl.utils.json_text import to_json
from video_snl.utils.progress import counted

__all__ = ["Asked", "spectrum"]


@dataclass(frozen=True)
class Asked:
    """What is asked for, whatever the network is of.

    Attributes:
        inputs: How many of the test list, where none are named.
        groups: Of channels.
        largest: Rows of the largest matrix whose eigenvalues are computed.
        output: Folder for numbers and pictures.
        as_json: Numbers in the place of a table.

    Raises:
        UserError: A number below 1.
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
    asked: Asked,
    *,
    checkpoint: str | None,
    reading: Reading,
    accelerator: str,
) -> int:
    """Measure the blocks of a network on inputs; print and write what was found.

    An input that cannot be read, or is not finite in the network, costs a line on stderr.

    Args:
        paths: Files, or folders of them; none: some of the test list of the training.
        spec: The kind of task.
        asked: What is measured.
        checkpoint: The network.
        reading: How the files are read.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Returns:
        2 when an input could not be read, else 0.

    Raises:
        UserError: The network has no blocks, or the folder cannot be written.
    """
    operations: Operations = spec.make()
    files = operations.find_inputs(paths, "spectrum", reading) if paths else []
    device = device_of(accelerator)
    if spec.inputs == "videos":
        start_forkserver()  # loads its modules while the network is made
    path = operations.find_checkpoint(checkpoint)
    trained = operations.reading(load_trained(path, spec), reading)
    inputs = files or operations.test_inputs(trained, asked.inputs)
    blocks = operations.blocks(trained.model)
    if not blocks:
        raise UserError(
            f"{path} holds a network without blocks: there are no spectra to measure; name "
            "one that was trained with a block (--model.block snl)"
        )
    folder = None if asked.output is None else _folder(asked.output)
    name = operations.block_name(trained.experiment)
    measured = measures(blocks, name, largest=asked.largest, groups=asked.groups)
    read: list[str] = []
    with closing(
        cast(Generator[tuple[str, Any]], counted(inputs, len(inputs), "inputs"))
    ) as counting:
        for source, item in counting:
            try:
                given = block_inputs(analysis_input(trained, source, item, device))
                samples = {at: measured[at].measured(source, x) for at, x in given.items()}
            except UserError as error:
                print(f"{spec.command} spectrum: error: {error}", file=sys.stderr, flush=True)
                continue
            read.append(source)
            for position, sample in samples.items():
                measured[position].keep(sample)
    if read:
        found = Measured(str(path), read, [each.found() for each in measured.values()])
        _report(found, folder, as_numbers=asked.as_json)
    return 0 if len(read) == len(inputs) else 2


def _folder(named: str) -> Path:
    """Made here, so that a bad one is known before the work."""
    folder = Path(named)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(named, error) from error
    check_folder("--output", str(folder))
    return folder


def _report(found: Measured, folder: Path | None, *, as_numbers: bool) -> None:
    if folder is not None:
        try:
            write_spectra(folder, found)
        except OSError as error:
            raise _unwritable(str(folder), error) from error
    if as_numbers:
        print(to_json(as_json(found), indent=2, finite=True))
        return
    print(table(found))
    if folder is not None:
        print(f"numbers and pictures: {folder}")


def _unwritable(folder: str, error: OSError) -> UserError:
    reason = error.strerror or error
    return UserError(f"--output {folder} cannot be written ({reason}): give another folder.")
