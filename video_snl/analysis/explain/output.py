"""The folder of an explanation: page, maps, numbers and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from video_snl.analysis.explain.figure3 import draw_features, draw_looks
from video_snl.analysis.explain.finite import check_explanations
from video_snl.analysis.explain.page import write_page
from video_snl.analysis.explain.positions import strongest
from video_snl.analysis.explain.structure import BlockMaps, Explanation, Grid
from video_snl.errors import UserError
from video_snl.utils.files import check_folder, replace_file, write_json
from video_snl.utils.json_text import parse_json

__all__ = ["output_folder", "report", "write_explanations"]

_PICTURE = re.compile(r"(looks|features)(-\d+)?\.png")


def output_folder(named: str | None, source: str) -> Path:
    """The folder to write to, made here, so that a bad one is known before the work.

    Raises:
        UserError: It cannot be made, or written to.
    """
    folder = Path(named if named is not None else f"explain-{Path(source).stem or 'clip'}")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_folder("--output", str(folder))
    return folder


def write_explanations(folder: Path, explanations: list[Explanation], at: Grid | None) -> Path:
    """Write ``index.html``, ``maps.npz``, ``explanation.json`` and the pictures; all atomically.

    Pictures of an earlier explanation in the folder that this one has not are removed.

    Args:
        at: The position of the pictures, in the feature map of the first block; by default the
            :func:`strongest`.

    Returns:
        The page.

    Raises:
        UserError: Something is not finite, and nothing is written, or cannot be written.
    """
    check_explanations(explanations)
    place = strongest(explanations) if at is None else at
    with _writing(folder):
        earlier = _earlier_pictures(folder)
        replace_file(folder / "maps.npz", lambda path: _save_maps(path, explanations))
        pictures = [_draw(folder, *numbered, explanations, place) for numbered in _n(explanations)]
        page = write_page(folder, explanations)
        values = {
            "at": place,
            "networks": [
                _numbers(explanation) | {"pictures": names}
                for explanation, names in zip(explanations, pictures, strict=True)
            ],
        }
        for name in earlier - {name for names in pictures for name in names}:
            (folder / name).unlink(missing_ok=True)
        write_json(folder / "explanation.json", values, finite=True)
    return page


def _earlier_pictures(folder: Path) -> set[str]:
    """Those that an earlier explanation in the folder lists as its own."""
    try:
        values = parse_json((folder / "explanation.json").read_text(encoding="utf-8"))
        names = {name for network in values["networks"] for name in network["pictures"]}
    except (OSError, ValueError, KeyError, TypeError):  # none, or none of ours
        return set()
    return {name for name in names if isinstance(name, str) and _PICTURE.fullmatch(name)}


def report(explanations: list[Explanation], page: Path) -> None:
    """Print the classes and where the files are."""
    for explanation in explanations:
        print(explanation.checkpoint)
        width = max((len(name) for name, _ in explanation.classes), default=0)
        for name, score in explanation.classes:
            print(f"  {name:{width}}  {score:7.2%}")
        for note in explanation.notes:
            print(f"  {note}")
    others = "maps.npz, explanation.json and pictures beside it"
    print(f"page: {page} ({others})", flush=True)


def map_name(number: int, block: BlockMaps, kind: str) -> str:
    """The name of an array in ``maps.npz``: ``0 before:res4.5 unit 0 affinity^2``."""
    return f"{number} {block.position} unit {block.unit} {kind}"


def _save_maps(path: Path, explanations: list[Explanation]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, explanation in _n(explanations):
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
    """Draw the pictures of one network; returns their names."""
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


def _n(explanations: list[Explanation]) -> Iterator[tuple[int, Explanation]]:
    """Numbered from 0, as the arrays and pictures are."""
    yield from enumerate(explanations)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output {folder} cannot be written ({error.strerror or error}): give another folder."
        ) from error
