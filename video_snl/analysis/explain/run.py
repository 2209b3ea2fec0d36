"""``explain``: what do the blocks look at in this video, image or tracklet?

The answer is a folder with a page, maps, numbers and figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video_snl.analysis.explain.figure3 import draw_features, draw_looks
from video_snl.analysis.explain.page import write_page
from video_snl.analysis.explain.positions import parse_at, strongest
from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid, check_explanations
from video_snl.analysis.model_input import analysis_input, explained
from video_snl.config.task_spec import AnyExperiment, TaskSpec
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.trainer import device_of
from video_snl.runs.trained import TrainedNetwork, load_trained
from video_snl.tasks.operations import Reading
from video_snl.utils.files import make_output_folder, replace_file, write_json, writing
from video_snl.utils.json_text import parse_json

__all__ = ["explain", "explain_input", "output_folder", "report", "write_explanations"]

_FIGURE = re.compile(r"(looks|features)(-\d+)?\.png")


def explain(
    source: str,
    spec: TaskSpec,
    *,
    checkpoint: str | None,
    compare: str | None,
    output: str | None,
    at: str | None,
    reading: Reading,
    accelerator: str,
) -> int:
    """Write the folder of an explanation, and print the classes and where it is.

    Args:
        source: The video, image or tracklet.
        spec: The kind of task.
        checkpoint, compare: The network, and a second one for the same page.
        output: Folder to write to; default ``explain-NAME``.
        at: Position that the figures are about, as ``T,ROW,COL``.
        reading: Options for reading the source.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        UserError: Something named is not there, cannot be read or written, or no position.
    """
    operations = spec.make()
    position = None if at is None else parse_at(at)
    name, item = operations.find_input(source, reading)
    device = device_of(accelerator)
    paths = [operations.find_checkpoint(checkpoint)]
    if compare is not None:
        paths.append(operations.find_checkpoint(compare, option="--compare"))
    folder = output_folder(output, name)
    if spec.inputs == "videos":
        start_forkserver()  # loads its modules while the networks are made
    networks = [operations.reading(load_trained(path, spec), reading) for path in paths]
    explanations, page = explain_input(networks, name, item, folder, at=position, device=device)
    report(explanations, page)
    return 0


def explain_input(
    networks: Sequence[TrainedNetwork[AnyExperiment]],
    name: str,
    item: object,
    folder: Path,
    *,
    at: Grid | None,
    device: torch.device,
) -> tuple[list[Explanation], Path]:
    """Explain one input by several networks, and write the folder.

    Args:
        networks: Networks of one kind of task; they are moved to the device.
        name, item: The input, as the task's operations return it from ``find_input``.
        folder: The folder, which exists.
        at: Position that the figures are about.
        device: Device of the networks.

    Returns:
        The explanations, and the page.

    Raises:
        UserError: The input cannot be read, there is no such position, or the folder cannot be
            written.
    """
    found = [analysis_input(trained, name, item, device) for trained in networks]
    explanations = explained(found, at)
    return explanations, write_explanations(folder, explanations, at)


def output_folder(named: str | None, source: str) -> Path:
    """Make the folder to write to, so that a bad one is known before the work.

    Raises:
        UserError: It cannot be made, or written to.
    """
    folder = Path(named if named is not None else f"explain-{Path(source).stem or 'clip'}")
    return make_output_folder("--output", str(folder))


def write_explanations(folder: Path, explanations: list[Explanation], at: Grid | None) -> Path:
    """Write ``index.html``, ``maps.npz``, ``explanation.json`` and the figures; all atomically.

    Figures of an earlier explanation in the folder that this one does not have are removed.

    Args:
        at: The position that the figures are about, in the feature map of the first block; by
            default the :func:`strongest`.

    Returns:
        The page.

    Raises:
        UserError: Something is not finite, and nothing is written, or cannot be written.
    """
    check_explanations(explanations)
    place = strongest(explanations) if at is None else at
    with writing("--output", str(folder)):
        earlier = _earlier_figures(folder)
        replace_file(folder / "maps.npz", lambda path: _save_maps(path, explanations))
        figures = [
            _draw(folder, *numbered, explanations, place) for numbered in enumerate(explanations)
        ]
        page = write_page(folder, explanations)
        values = {
            "at": place,
            "networks": [
                _numbers(explanation) | {"pictures": names}
                for explanation, names in zip(explanations, figures, strict=True)
            ],
        }
        for name in earlier - {name for names in figures for name in names}:
            (folder / name).unlink(missing_ok=True)
        write_json(folder / "explanation.json", values, finite=True)
    return page


def report(explanations: list[Explanation], page: Path) -> None:
    """Print the classes and where the files are."""
    for explanation in explanations:
        print(explanation.checkpoint)
        width = max((len(name) for name, _ in explanation.classes), default=0)
        for name, score in explanation.classes:
            print(f"  {name:{width}}  {score:7.2%}")
        for note in explanation.notes:
            print(f"  {note}")
    others = "maps.npz, explanation.json and figures beside it"
    print(f"page: {page} ({others})", flush=True)


def map_name(number: int, block: BlockMaps, kind: str) -> str:
    """Return the name of an array in ``maps.npz``: ``0 before:res4.5 unit 0 affinity^2``."""
    return f"{number} {block.position} unit {block.unit} {kind}"


def _earlier_figures(folder: Path) -> set[str]:
    """Return the figures that an earlier explanation in the folder lists as its own."""
    try:
        values = parse_json((folder / "explanation.json").read_text(encoding="utf-8"))
        names = {name for network in values["networks"] for name in network["pictures"]}
    except (OSError, ValueError, KeyError, TypeError):  # none, or none of ours
        return set()
    return {name for name in names if isinstance(name, str) and _FIGURE.fullmatch(name)}


def _save_maps(path: Path, explanations: list[Explanation]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, explanation in enumerate(explanations):
        arrays[f"{number} frames"] = explanation.frames
        if explanation.gradcam is not None:
            arrays[f"{number} gradcam"] = explanation.gradcam
        for block in explanation.blocks:
            kinds = {**block.maps, "before": block.before, "after": block.after}
            arrays |= {map_name(number, block, kind): values for kind, values in kinds.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # no name is allow_pickle


def _draw(
    folder: Path,
    number: int,
    explanation: Explanation,
    explanations: list[Explanation],
    at: Grid | None,
) -> list[str]:
    """Draw the figures of one network; returns their names."""
    suffix = "" if len(explanations) == 1 else f"-{number}"
    drawn = []
    if at is not None and explanation.blocks:
        first = next(block for other in explanations for block in other.blocks)
        drawn.append(f"looks{suffix}.png")
        draw_looks(explanation, at, first.full_grid, folder / drawn[-1])
    if explanation.blocks or explanation.gradcam is not None:
        drawn.append(f"features{suffix}.png")
        draw_features(explanation, folder / drawn[-1])
    return drawn


def _numbers(explanation: Explanation) -> dict[str, Any]:
    return {
        "source": explanation.source,
        "checkpoint": explanation.checkpoint,
        "classes": [{"class": name, "score": round(s, 6)} for name, s in explanation.classes],
        "blocks": [
            {
                "block": block.block,
                "position": block.position,
                "unit": block.unit,
                "grid": list(block.grid),
                "full_grid": list(block.full_grid),
                "kinds": list(block.maps),
            }
            for block in explanation.blocks
        ],
        "notes": explanation.notes,
    }
