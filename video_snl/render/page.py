"""HTML pages that hold everything they show: no network, no other file.

Pages of both programs extend ``templates/page.html``, which has what they share: colours for light
and dark, tables, figures, film strips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from video_snl.data.image.reading import open_image
from video_snl.render.film_strips import data_uri
from video_snl.utils.files import write_text
from video_snl.utils.pages import page_templates

__all__ = ["embedded_png", "flat_settings", "per_cent", "shortened_name", "write_page"]

_BASE = "video_snl.render"
_NAME_PARTS = 3


def write_page(path: Path, package: str, template: str, values: Mapping[str, Any]) -> None:
    """Fill a template of a package, escape everything in ``values``, and write it atomically."""
    write_text(path, page_templates(package, _BASE).get_template(template).render(values))


def embedded_png(path: Path) -> dict[str, Any]:
    """Return a PNG file for a page: its data URI, and half its size in pixels."""
    with open_image(path) as image:
        width, height = image.size
    return {"uri": data_uri(path.read_bytes()), "width": width // 2, "height": height // 2}


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as ``section.name`` with plain values, in their order."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat_settings(value, f"{prefix}{name}.")
        else:
            plain = value is None or isinstance(value, (bool, int, float, str))
            yield f"{prefix}{name}", value if plain else str(value)


def per_cent(share: float) -> str:
    """Format a share with one decimal, as papers do: ``87.5 %``, with a no-break space."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def shortened_name(name: str) -> str:
    """Return the last three parts of a path."""
    parts = PurePath(name).parts
    return name if len(parts) <= _NAME_PARTS else str(PurePath("…", *parts[-_NAME_PARTS:]))
