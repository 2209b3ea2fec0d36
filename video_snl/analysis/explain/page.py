"""The attention explorer: one HTML page that holds all it shows and needs no network.

Beside the markup, the page holds what its script reads: images once each, maps in levels, where
positions lie. Numbers are levels of 8 bits in base64, images are JPEG.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from video_snl.analysis.explain.structure import (
    SENSITIVITY,
    BlockMaps,
    Explanation,
    cells,
    check_explanations,
    is_signed,
)
from video_snl.render.film_strips import data_uri
from video_snl.utils.files import write_text
from video_snl.utils.pages import page_script, page_templates

__all__ = [
    "decoded_rows",
    "encoded_map",
    "encoded_rows",
    "page_html",
    "palette",
    "row_step",
    "write_page",
]

LEVELS = 255
"""The highest level; the lowest is 0."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_MODES = (
    ("attention", "where it looks", "weights of the block's affinity, or its sensitivity"),
    ("before", "features before", "length of the features that go into the block"),
    ("after", "features after", "length of the features that come out of the block"),
    ("gradcam", "Grad-CAM", "what speaks for the predicted class"),
)
_SCALES = (
    ("own", "own maximum", "the largest weight of the chosen position"),
    ("range", "own range", "from the smallest weight of the chosen position: shows faint patterns"),
    ("map", "common maximum", "the largest weight of all positions of the block"),
    ("all", "maximum of all networks", "the same colours mean the same weights in every network"),
)
_SCRIPTS = ("fields.js", "drawing.js", "explorer.js")
_SIZES = (("small", "small", ""), ("medium", "medium", ""), ("large", "large", ""))
_SENSITIVITY_HELP = "how strongly the output at the chosen position follows each input position"
_NAME_PARTS, _MOST_PARTS = 3, 5
_SEQUENTIAL, _DIVERGING = "inferno", "coolwarm"
_LONGER_SIDE = 400  # pixels
_QUALITY = 85


def write_page(folder: Path, explanations: Sequence[Explanation]) -> Path:
    """Write ``index.html``, atomically; several explanations are shown beside each other.

    Args:
        folder: Made if it is not there.
        explanations: One for each network, of one clip or of clips to be compared.

    Returns:
        The page's path.

    Raises:
        ValueError: without an explanation.
        UserError: for maps with values that are not finite.
    """
    path = folder / "index.html"
    write_text(path, page_html(explanations))
    return path


def page_html(explanations: Sequence[Explanation]) -> str:
    """Return the page of :func:`write_page` as text."""
    if not explanations:
        raise ValueError("a page needs at least one explanation.")
    environment = page_templates("video_snl.analysis.explain")
    kinds = _kinds(explanations)
    data = _page_data(explanations, {kind: label for kind, label, _ in kinds})
    sources = list(dict.fromkeys(PurePath(each.source).name for each in explanations))
    return environment.get_template("explorer.html").render(
        title=f"What the network looks at: {', '.join(sources)}",
        title_source=sources[0] if len(sources) == 1 else None,
        modes=_modes(explanations),
        has_blocks=any(each.blocks for each in explanations),
        kinds=kinds,
        scales=_SCALES if len(explanations) > 1 else _SCALES[:-1],
        sizes=_SIZES,
        panels=[
            _panel(each, name, frames["frames"])
            for each, name, frames in zip(
                explanations,
                _names([each.checkpoint for each in explanations]),
                data["explanations"],
                strict=True,
            )
        ],
        data=data,
        thinned=any(
            block.grid != block.full_grid for each in explanations for block in each.blocks
        ),
        script=page_script("video_snl.analysis.explain", *_SCRIPTS),
    )


def encoded_map(matrix: ArrayLike, by_time: ArrayLike, positions: int) -> dict[str, Any]:
    """Encode a map, and of each row the strongest position, the total and its parts by time.

    Args:
        matrix: (N, N) weights.
        by_time: (N, T), sums of the sizes of the whole rows, also where the map is subsampled.
        positions: Number of positions in a whole row. The total that is stored is N times the mean
            of a whole row.

    Raises:
        ValueError: for values that are not finite.
    """
    weights = np.asarray(matrix, dtype=np.float64)
    encoded = encoded_rows(weights)
    parts = np.asarray(by_time, dtype=np.float64)
    total = parts.sum(1)
    shares = parts / np.where(total > 0, total, 1.0)[:, None]
    return {
        "rows": encoded,
        "signed": is_signed(weights),
        "strongest": _base64_of(np.abs(weights).argmax(1).astype(np.int32)),
        "total": _base64_of((total * (weights.shape[1] / positions)).astype(np.float32)),
        "shares": _base64_of(shares.astype(np.float32)),
    }


def encoded_rows(rows: ArrayLike) -> dict[str, str]:
    """Encode rows of numbers in 256 levels each, between the row's smallest and largest.

        level = round(255 (value - low) / (high - low)),   value' = low + (high - low) level / 255

    ``low`` and ``high`` are float32, so the ends of a row come back as they are and any other value
    to within (high - low) / 510, plus the rounding of float32.

    Shapes:
        rows: (R, C), finite.

    Raises:
        ValueError: for anything else.
    """
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"rows must be of shape (R, C) with C > 0, not {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {values.size} values are not finite.")
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    levels = np.rint(LEVELS * (values - low) / span).astype(np.uint8)
    return {
        "low": _base64_of(low[:, 0].astype(np.float32)),
        "high": _base64_of(high[:, 0].astype(np.float32)),
        "levels": _base64_of(levels),
    }


def decoded_rows(encoded: dict[str, str]) -> NDArray[np.float64]:
    """Decode :func:`encoded_rows` as the page does: (R, C)."""
    low, high = (_array(encoded[name], "<f4").astype(np.float64) for name in ("low", "high"))
    levels = _array(encoded["levels"], "u1").reshape(len(low), -1)
    return low[:, None] + (high - low)[:, None] * levels / LEVELS


def row_step(rows: ArrayLike) -> NDArray[np.float64]:
    """Return the largest error of a value of each row on the page: (R, 1)."""
    values = np.asarray(rows, dtype=np.float64)
    low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
    rounding = 2 * np.finfo(np.float32).eps * np.maximum(abs(low), abs(high))
    return (high - low) / (2 * LEVELS) + rounding + np.finfo(np.float32).tiny


def palette(name: str) -> str:
    """Return 256 colours (red, green, blue) of one of matplotlib's colour maps."""
    from matplotlib import colormaps

    colours = colormaps[name](np.linspace(0, 1, LEVELS + 1))[:, :3]
    return _base64_of(np.rint(255 * colours).astype(np.uint8))


def _modes(explanations: Sequence[Explanation]) -> list[tuple[str, str, str]]:
    """Return what the page offers to show: only what at least one of the networks has."""
    blocks = any(each.blocks for each in explanations)
    gradcam = any(each.gradcam is not None for each in explanations)
    return [mode for mode in _MODES if (gradcam if mode[0] == "gradcam" else blocks)]


def _panel(explanation: Explanation, name: str, frames: Sequence[int]) -> dict[str, Any]:
    height, width = explanation.frames.shape[1:3]
    wide, most = _widths(len(frames), width / height)
    return {
        "checkpoint": name,
        "source": PurePath(explanation.source).name,
        "notes": explanation.notes,
        "classes": explanation.classes,
        "gradcam": explanation.gradcam is not None,
        "blocks": [_block_label(block) for block in explanation.blocks],
        "frames": frames,
        "width": width,
        "height": height,
        "wide": wide,
        "most": most,
    }


def _widths(frames: int, aspect: float) -> tuple[float, float]:
    """Return the width of an image beside a square one, and the most (rem) of all of them."""
    wide = min(max(aspect, 0.5), 2.0) ** 0.5
    return round(wide, 3), round(wide * (26 if frames == 1 else 19 * frames), 1)


def _block_label(block: BlockMaps) -> str:
    return f"{block.title}, {' × '.join(str(length) for length in block.grid)} positions"


def _kinds(explanations: Sequence[Explanation]) -> list[tuple[str, str, str]]:
    """Return the kinds of maps of all blocks, in their order: name, label and help."""
    names = dict.fromkeys(
        kind for each in explanations for block in each.blocks for kind in block.maps
    )
    return [(name, *_kind_label(name)) for name in names]


def _kind_label(kind: str) -> tuple[str, str]:
    name, _, power = kind.partition("^")
    if name == "affinity" and not power:
        return "A", "a row of the affinity"
    if name == "affinity":
        return f"A{power.translate(_SUPERSCRIPTS)}", f"a row of the affinity's power {power}"
    return kind, _SENSITIVITY_HELP if kind == SENSITIVITY else kind


def _names(paths: Sequence[str]) -> list[str]:
    """Return the paths' last parts: enough of them that those that differ are told apart."""
    parts = [_without_folder(PurePath(path).parts) for path in paths]
    shared = next(
        (n for n, column in enumerate(zip(*parts, strict=False)) if len(set(column)) > 1), 0
    )
    return [_short(each, len(each) - shared if shared else _NAME_PARTS) for each in parts]


def _without_folder(parts: Sequence[str]) -> tuple[str, ...]:
    """Drop the folder that every run has."""
    return tuple(part for part in parts if part != "checkpoints")


def _short(parts: Sequence[str], count: int) -> str:
    kept = parts[-min(max(count, 1), _MOST_PARTS) :]
    return str(PurePath(*kept) if len(kept) == len(parts) else PurePath("…", *kept))


def _page_data(explanations: Sequence[Explanation], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return all explanations as JSON; ``kinds`` are the labels of the maps' kinds.

    Raises:
        UserError: for maps with values that are not finite.
    """
    check_explanations(explanations)
    images: dict[str, int] = {}  # Networks that see the same clip share its images.
    return {
        "kinds": dict(kinds),
        "palettes": {"sequential": palette(_SEQUENTIAL), "diverging": palette(_DIVERGING)},
        "explanations": [_explanation(each, images) for each in explanations],
        "pictures": list(images),
    }


def _explanation(explanation: Explanation, images: dict[str, int]) -> dict[str, Any]:
    t, h, w = explanation.frames.shape[:3]
    uris = [_image_uri(frame) for frame in explanation.frames]
    gradcam = explanation.gradcam
    return {
        "frames": [images.setdefault(uri, len(images)) for uri in uris],
        "height": h,
        "width": w,
        "gradcam": None if gradcam is None else _grid(gradcam, (t, h, w)),
        "blocks": [_block(block, (t, h, w)) for block in explanation.blocks],
    }


def _block(block: BlockMaps, frames: tuple[int, int, int]) -> dict[str, Any]:
    positions = math.prod(block.full_grid)
    return {
        "position": block.position,
        "unit": block.unit,
        "cells": _cells(block.grid, frames),
        "maps": {
            kind: encoded_map(matrix, block.by_time(kind), positions)
            for kind, matrix in block.maps.items()
        },
        "before": _grid(block.before, frames),
        "after": _grid(block.after, frames),
    }


def _grid(values: NDArray[Any], frames: tuple[int, int, int]) -> dict[str, Any]:
    t, h, w = values.shape
    return {"cells": _cells((t, h, w), frames), "rows": encoded_rows(values.reshape(1, -1))}


def _cells(grid: tuple[int, int, int], frames: tuple[int, int, int]) -> dict[str, Any]:
    """Return spans of the grid's cells: of frames, and as shares of the height and of the width."""
    times, rows, columns = (cells(w, p) for w, p in zip(frames, grid, strict=True))
    return {"times": times, "rows": _shares(rows), "columns": _shares(columns)}


def _shares(spans: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    whole = spans[-1][1]
    return [(start / whole, stop / whole) for start, stop in spans]


def _image_uri(frame: NDArray[np.uint8]) -> str:
    """Return a frame (H, W, 3) as the data URI of a JPEG, its longer side at most 400 pixels."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    return data_uri(image, _QUALITY)


def _base64_of(array: NDArray[Any]) -> str:
    """Encode the array's bytes, little-endian and in C order, as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def _array(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
