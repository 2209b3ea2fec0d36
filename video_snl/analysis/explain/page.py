"""The attention explorer: one HTML page that holds all it shows and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment

from video_snl.analysis.explain.page_data import page_data
from video_snl.analysis.explain.structure import SENSITIVITY, BlockMaps, Explanation
from video_snl.utils.files import write_text
from video_snl.utils.pages import page_templates

__all__ = ["page_html", "write_page"]

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
_SIZES = (("small", "small", ""), ("medium", "medium", ""), ("large", "large", ""))
_SENSITIVITY_HELP = "how strongly the output at the chosen position follows each input position"
_NAME_PARTS, _MOST_PARTS = 3, 5


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
    data = page_data(explanations, {kind: label for kind, label, _ in kinds})
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
        script=_script(environment),
    )


def _modes(explanations: Sequence[Explanation]) -> list[tuple[str, str, str]]:
    """Return what the page offers to show: only what at least one of the networks has."""
    blocks = any(each.blocks for each in explanations)
    gradcam = any(each.gradcam is not None for each in explanations)
    return [mode for mode in _MODES if (gradcam if mode[0] == "gradcam" else blocks)]


def _script(environment: Environment) -> str:
    """Return the scripts as they are; a template would read some of their braces as its own."""
    names = ("fields.js", "drawing.js", "explorer.js")
    assert environment.loader is not None
    return "\n".join(environment.loader.get_source(environment, name)[0] for name in names)


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
