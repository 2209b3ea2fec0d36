"""The command ``spectrum``: measure the blocks of a network on inputs and report their spectra."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from video_snl.analysis.explain.run import video_subject
from video_snl.analysis.model_input import Subject, block_inputs
from video_snl.analysis.spectrum.measure import BlockMeasurement, NetworkSpectra
from video_snl.analysis.spectrum.report import as_json, table, write_spectra
from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.image_programs import IMAGES
from video_snl.config.video import ShortVideos
from video_snl.data.image.catalog import load_images
from video_snl.data.image.inference import prepared
from video_snl.data.transforms.image import evaluation_images
from video_snl.data.video.catalog import load_videos
from video_snl.data.workers.forkserver import nursery
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained
from video_snl.runs.trained_images import TrainedImages, load_trained_images
from video_snl.utils.files import check_folder
from video_snl.utils.json_text import to_json
from video_snl.utils.media import named_media
from video_snl.utils.progress import counted

__all__ = [
    "SpectrumOptions",
    "evenly_spaced",
    "measure_and_report",
    "spectrum",
    "spectrum_of_images",
]


@dataclass(frozen=True)
class SpectrumOptions:
    """The options that all kinds of networks share.

    Attributes:
        inputs: number of inputs from the test list, where none are named.
        groups: number of groups of output channels.
        largest: number of rows of the largest matrix whose eigenvalues are computed.
        output: folder for numbers and plots.
        as_json: True to print JSON instead of a table.

    Raises:
        UserError: for a number below 1.
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
    options: SpectrumOptions,
    *,
    checkpoint: str | None,
    short_videos: ShortVideos | None,
    deadline: float | None,
    accelerator: str,
) -> int:
    """Measure a video network on videos; without paths, on some of the run's test list.

    Returns:
        2 if an input could not be read, else 0.
    """
    if deadline is not None and not deadline > 0:
        raise UserError(f"--deadline {deadline}: give seconds, more than 0.")
    files = _files(paths, "videos")
    device = device_of(accelerator)
    nursery()  # loads its modules while the network is made
    trained = load_trained(checkpoint_path(checkpoint))
    sources = files or _listed_videos(trained, options.inputs)

    def subject(source: str) -> Subject:
        return video_subject(source, trained, short_videos, deadline, device)

    named = trained.experiment.model.block, inserted_blocks(trained.model)
    return measure_and_report("video-snl", trained.path, named, sources, subject, options)


def spectrum_of_images(
    paths: Sequence[str], options: SpectrumOptions, *, checkpoint: str | None, accelerator: str
) -> int:
    """Measure an image network on images; without paths, on some of the run's test list.

    Returns:
        2 if an image could not be read, else 0.
    """
    files = _files(paths, "images")
    device = device_of(accelerator)
    trained = load_trained_images(checkpoint_path(checkpoint, IMAGES))
    listed = {} if files else _listed_images(trained, options.inputs)

    def subject(source: str) -> Subject:
        image = listed[source] if listed else prepared(Path(source), trained.experiment.data)
        return _image_subject(source, image, trained, device)

    named = trained.experiment.model.block, inserted_blocks(trained.model)
    sources = files or list(listed)
    return measure_and_report("video-snl", trained.path, named, sources, subject, options)


def measure_and_report(
    program: str,
    checkpoint: Path,
    named_blocks: tuple[str, Mapping[str, nn.Module]],
    sources: Sequence[str],
    subject: Callable[[str], Subject],
    options: SpectrumOptions,
) -> int:
    """Measure the blocks on every input and report the spectra.

    An input that cannot be read, or is not finite in the network, is one line on stderr.

    Args:
        program: name of the program, for messages.
        checkpoint: file of the network.
        named_blocks: name of the blocks, and the blocks by position.
        sources: names of the inputs.
        subject: function that reads an input, by its name.
        options: options of the command.

    Returns:
        2 if an input could not be measured, else 0.

    Raises:
        UserError: for a network without blocks, or a folder that cannot be written.
    """
    name, blocks = named_blocks
    if not blocks:
        raise UserError(
            f"{checkpoint} holds a network without blocks: there are no spectra to measure; name "
            "one that was trained with a block (--model.block snl)"
        )
    folder = None if options.output is None else _make_folder(options.output)
    measurements = {
        position: BlockMeasurement(
            position, name, block, largest=options.largest, groups=options.groups
        )
        for position, block in blocks.items()
    }
    measured: list[str] = []
    with closing(_counted(sources)) as counting:
        for source in counting:
            try:
                inputs = block_inputs(subject(source))
                found = {at: measurements[at].measure(source, x) for at, x in inputs.items()}
            except UserError as error:
                print(f"{program} spectrum: error: {error}", file=sys.stderr, flush=True)
                continue
            # All blocks or none, so that every block has the same inputs.
            measured.append(source)
            for position, spectra in found.items():
                measurements[position].add(spectra)
    if measured:
        results = [measurement.result() for measurement in measurements.values()]
        _report(NetworkSpectra(str(checkpoint), measured, results), folder, options.as_json)
    return 0 if len(measured) == len(sources) else 2


def evenly_spaced(count: int, length: int) -> list[int]:
    """Return ``count`` indices of a list, or all of a shorter one: the middles of equal parts."""
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _files(paths: Sequence[str], kind: Literal["videos", "images"]) -> list[str]:
    """Return the files that paths name: themselves, or those below a folder.

    Raises:
        UserError: for a path that does not exist, or a folder without such files.
    """
    return [str(path) for path in named_media(paths, kind, "video-snl spectrum")]


def _listed_videos(trained: Trained, count: int) -> list[str]:
    """Return some of the run's test list."""
    try:
        test = load_videos(trained.experiment.data).test
    except UserError as error:
        raise UserError(f"the test list of the run: {error}; or name videos") from error
    return [test[index].path for index in evenly_spaced(count, len(test))]


def _listed_images(trained: TrainedImages, count: int) -> dict[str, Tensor]:
    """Return some of the run's test list, by name."""
    try:
        test = load_images(trained.experiment.data).test
        chosen = evenly_spaced(count, len(test))
        return {test.paths[index]: test[0, index]["image"] for index in chosen}
    except UserError as error:
        raise UserError(f"the test list of the run: {error}; or name images") from error


def _image_subject(
    source: str, image: Tensor, trained: TrainedImages, device: torch.device
) -> Subject:
    """Prepare one image, uint8 (H, W, 3); for segmentation whole, without windows."""
    model = trained.model.to(device)
    clip = evaluation_images(image[None].to(device), trained.mean, trained.std).contiguous()
    return Subject(
        source=source,
        checkpoint=trained.path,
        run=model,
        scores=None,
        blocks=inserted_blocks(model),
        block=trained.experiment.model.block,
        frames=image[None].numpy(),
        clip=clip,
        class_names=trained.class_names,
    )


def _counted(sources: Sequence[str]) -> Any:
    return counted(sources, len(sources), "inputs")


def _make_folder(name: str) -> Path:
    """Make the folder before the work, so that a bad name is known at once."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(name, error) from error
    check_folder("--output", str(folder))
    return folder


def _report(spectra: NetworkSpectra, folder: Path | None, print_json: bool) -> None:
    if folder is not None:
        try:
            write_spectra(folder, spectra)
        except OSError as error:
            raise _unwritable(str(folder), error) from error
    if print_json:
        print(to_json(as_json(spectra), indent=2, finite=True))
        return
    print(table(spectra))
    if folder is not None:
        print(f"numbers and plots: {folder}")


def _unwritable(folder: str, error: OSError) -> UserError:
    reason = error.strerror or error
    return UserError(f"--output {folder} cannot be written ({reason}): give another folder.")
