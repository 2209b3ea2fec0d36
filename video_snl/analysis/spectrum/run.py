"""Measure the blocks of a network on inputs, print and write what was found; and for videos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from video_snl.analysis.explain.run import video_subject
from video_snl.analysis.model_input import Subject, block_inputs
from video_snl.analysis.spectrum.measure import measures
from video_snl.analysis.spectrum.numbers import as_json
from video_snl.analysis.spectrum.output import write_spectra
from video_snl.analysis.spectrum.structure import Measured
from video_snl.analysis.spectrum.table import table
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.video import ShortVideos
from video_snl.data.video.catalog import load_videos
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained
from video_snl.utils.files import check_folder
from video_snl.utils.json_text import to_json
from video_snl.utils.media import named_media
from video_snl.utils.progress import counted

__all__ = ["Asked", "evenly_spaced", "files_below", "measured_and_reported", "spectrum"]


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
    asked: Asked,
    *,
    checkpoint: str | None,
    short_videos: ShortVideos | None,
    deadline: float | None,
    accelerator: str,
) -> int:
    """``video-snl spectrum`` of a network of videos; without paths, on some of its test list.

    Returns:
        2 when an input could not be read, else 0.
    """
    if deadline is not None and not deadline > 0:
        raise UserError(f"--deadline {deadline}: give seconds, more than 0.")
    files = files_below(paths, "videos")
    device = device_of(accelerator)
    start_forkserver()  # loads its modules while the network is made
    trained = load_trained(checkpoint_path(checkpoint))
    sources = files or _listed(trained, asked.inputs)

    def subject(source: str) -> Subject:
        return video_subject(source, trained, short_videos, deadline, device)

    blocks = inserted_blocks(trained.model)
    kind = trained.experiment.model.block
    return measured_and_reported("video-snl", trained.path, (kind, blocks), sources, subject, asked)


def measured_and_reported(
    program: str,
    checkpoint: Path,
    named_blocks: tuple[str, Mapping[str, nn.Module]],
    sources: Sequence[str],
    subject: Callable[[str], Subject],
    asked: Asked,
) -> int:
    """Measure every input that can be read and is finite in the network; a line for each other.

    Args:
        named_blocks: What they are called, and they by position.
        sources: Names of the inputs.
        subject: An input, by its name.

    Returns:
        2 when an input could not be read, else 0.

    Raises:
        UserError: The network has no blocks, or the folder cannot be written.
    """
    name, blocks = named_blocks
    if not blocks:
        raise UserError(
            f"{checkpoint} holds a network without blocks: there are no spectra to measure; name "
            "one that was trained with a block (--model.block snl)"
        )
    folder = None if asked.output is None else _folder(asked.output)
    measured = measures(blocks, name, largest=asked.largest, groups=asked.groups)
    read: list[str] = []
    with closing(_counted(sources)) as counting:
        for source in counting:
            try:
                inputs = block_inputs(subject(source))
                samples = {at: measured[at].measured(source, x) for at, x in inputs.items()}
            except UserError as error:
                print(f"{program} spectrum: error: {error}", file=sys.stderr, flush=True)
                continue
            read.append(source)
            for position, sample in samples.items():
                measured[position].keep(sample)
    if read:
        found = Measured(str(checkpoint), read, [each.found() for each in measured.values()])
        _report(found, folder, as_numbers=asked.as_json)
    return 0 if len(read) == len(sources) else 2


def files_below(paths: Sequence[str], wanted: Literal["videos", "images"]) -> list[str]:
    """The files that paths name: themselves, or those below a folder.

    Raises:
        UserError: A path is not there, or a folder holds none.
    """
    return [str(path) for path in named_media(paths, wanted, "video-snl spectrum")]


def evenly_spaced(count: int, length: int) -> list[int]:
    """``count`` indices of a list, or all of a shorter one; the middles of equal parts."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _listed(trained: Trained, count: int) -> list[str]:
    """Some of the test list of the run."""
    try:
        test = load_videos(trained.experiment.data).test
    except UserError as error:
        raise UserError(f"the test list of the run: {error}; or name videos") from error
    return [test[index].path for index in evenly_spaced(count, len(test))]


def _counted(sources: Sequence[str]) -> Any:
    return counted(sources, len(sources), "inputs")


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
