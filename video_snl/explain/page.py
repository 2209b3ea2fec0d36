"""The attention explorer: one HTML page that holds all it shows and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from video_snl.engine.files import write_text
from video_snl.explain.page_data import page_data
from video_snl.explain.structure import SENSITIVITY, BlockMaps, Explanation

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
    ("map", "common maximum", "the largest weight of all positions of the block"),
    ("all", "maximum of all networks", "the same colours mean the same weights in every network"),
)
_SIZES = (("small", "small", ""), ("medium", "medium", ""), ("large", "large", ""))
_SENSITIVITY_HELP = (
    "how strongly the block's output at the chosen position follows each input position"
)
_NAME_PARTS = 3


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
    """The page of :func:`write_page` as text."""
    if not explanations:
        raise ValueError("a page needs at least one explanation.")
    environment = Environment(
        loader=PackageLoader("video_snl.explain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = _kinds(explanations)
    data = page_data(explanations, {kind: label for kind, label, _ in kinds})
    sources = list(dict.fromkeys(_short(each.source) for each in explanations))
    return environment.get_template("explorer.html").render(
        title=f"What the network looks at: {', '.join(sources)}",
        title_source=sources[0] if len(sources) == 1 else None,
        modes=_MODES,
        kinds=kinds,
        scales=_SCALES if len(explanations) > 1 else _SCALES[:2],
        sizes=_SIZES,
        panels=[
            _panel(each, frames["frames"])
            for each, frames in zip(explanations, data["explanations"], strict=True)
        ],
        data=data,
        script=_script(environment),
    )


def _script(environment: Environment) -> Markup:
    """The scripts as they are; a template would read some of their braces as its own."""
    names = ("fields.js", "drawing.js", "explorer.js")
    assert environment.loader is not None
    return Markup("\n".join(environment.loader.get_source(environment, n)[0] for n in names))


def _panel(explanation: Explanation, frames: Sequence[int]) -> dict[str, Any]:
    height, width = explanation.frames.shape[1:3]
    return {
        "checkpoint": _short(explanation.checkpoint),
        "source": _short(explanation.source),
        "notes": explanation.notes,
        "classes": explanation.classes,
        "blocks": [_block_label(block) for block in explanation.blocks],
        "frames": frames,
        "width": width,
        "height": height,
        "wide": round(_wide(len(frames), width / height), 3),
    }


def _wide(frames: int, aspect: float) -> float:
    """How wide a picture is beside those of a clip of many square frames."""
    few = 2.6 if frames == 1 else 1.5 if frames <= 4 else 1.0
    return few * min(max(aspect, 0.5), 2.0) ** 0.5


def _block_label(block: BlockMaps) -> str:
    return f"{block.title}, {' × '.join(str(length) for length in block.grid)} positions"


def _kinds(explanations: Sequence[Explanation]) -> list[tuple[str, str, str]]:
    """The kinds of maps of all blocks, in their order: name, label and help."""
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


def _short(name: str) -> str:
    parts = PurePath(name).parts
    return name if len(parts) <= _NAME_PARTS else str(PurePath("…", *parts[-_NAME_PARTS:]))
