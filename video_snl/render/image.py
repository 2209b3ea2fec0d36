"""Images with what a network says of them, and the files that images and videos are rendered to."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from video_snl.errors import UserError
from video_snl.render.fonts import (
    Line,
    draw_lines,
    letters_for,
    line_height,
    spelled,
    text_size,
)
from video_snl.utils.files import make_output_folder, replace_file

__all__ = ["class_colours", "labelled", "overlaid", "save_image", "targets"]

_SMALLEST_SIDE = 240  # of labelled images: on smaller ones there is no room for letters
_OPACITY = 0.55
_GOLDEN = 0.618034


def labelled(image: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """Draw lines on an image; a small one is enlarged by a whole factor, in squares."""
    factor = -(-_SMALLEST_SIDE // min(image.size)) if min(image.size) < _SMALLEST_SIDE else 1
    size = factor * image.width, factor * image.height
    return draw_lines(image.resize(size, Image.Resampling.NEAREST), lines)


def overlaid(image: Image.Image, labels: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Colour an image by the class of every pixel, and list the classes, largest first, beside it.

    Args:
        labels: int (h, w), the image's size or another, to which it is stretched.
        names: Names of the classes, by label.
    """
    colours = class_colours(len(names))
    map_ = Image.fromarray(colours[labels]).resize(image.size, Image.Resampling.NEAREST)
    blended = Image.blend(image.convert("RGB"), map_, _OPACITY)
    counts = np.bincount(labels.ravel(), minlength=len(names))
    found = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]
    legend = _legend(
        blended.height,
        [(names[label], counts[label] / labels.size, tuple(colours[label])) for label in found],
    )
    whole = Image.new("RGB", (blended.width + legend.width, blended.height), "white")
    whole.paste(blended, (0, 0))
    whole.paste(legend, (blended.width, 0))
    return whole


def class_colours(count: int) -> np.ndarray:
    """Return colours that differ from those of the labels before them: uint8 (count, 3)."""
    shades = (
        colorsys.hsv_to_rgb(
            (label * _GOLDEN) % 1, (0.85, 0.55)[label % 2], (0.95, 0.7)[label // 2 % 2]
        )
        for label in range(count)
    )
    return np.array([[round(255 * value) for value in shade] for shade in shades], np.uint8)


def save_image(image: Image.Image, target: Path) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    try:
        replace_file(target, lambda temporary: image.save(temporary, format="png"))
    except OSError as error:
        raise UserError(
            f"--render {target} cannot be written ({error.strerror or error})"
        ) from error


def _legend(height: int, rows: Sequence[tuple[str, float, tuple[int, ...]]]) -> Image.Image:
    """Draw as many rows as fit: a square of the colour, the class, its share of the pixels."""
    size = min(text_size(height), max(8, round(height / (1.3 * (len(rows) + 1)))))
    step, margin = line_height(size), size // 2
    texts = [f"{spelled(name)}  {share:.1%}" for name, share, _ in rows]
    font = letters_for(texts, size)
    width = round(max(map(font.getlength, texts))) + 3 * margin + size
    legend = Image.new("RGB", (width, height), "white")
    drawing = ImageDraw.Draw(legend)
    for number, (text, (_, _, colour)) in enumerate(zip(texts, rows, strict=True)):
        top = margin + number * step
        if top + step > height:
            break
        square = (margin, top + 1, margin + size - 1, top + size)
        drawing.rectangle(square, fill=colour, outline="grey")
        font.draw(drawing, (2 * margin + size, top), text, fill="black")
    return legend


def targets(
    named: str,
    sources: Sequence[Path],
    *,
    suffixes: Sequence[str],
    folder_only: bool = False,
    option: str = "--render",
) -> dict[Path, Path]:
    """Choose the file to write for every source.

    One source may name its file; else ``named`` is a folder, made here, in which a file has its
    source's name with the first of the suffixes. Of sources of one name, the later ones get a
    number: ``a``, ``a-2``, ``a-3``.

    Args:
        suffixes: Suffixes that can be written.
        folder_only: No single file can be named.
        option: Option that names it, for messages.

    Raises:
        UserError: A file cannot be what is asked for, would replace a source, or the folder cannot
            be made or written to.
    """
    path = Path(named)
    is_file = path.suffix.lower() in suffixes and not path.is_dir()
    if is_file and not folder_only and len(sources) == 1:
        found = {sources[0]: path}
    elif is_file:
        many = "images" if folder_only else f"{len(sources)} files"
        raise UserError(f"{option} {named}: name a folder for {many}, not a file")
    elif path.suffix and not path.is_dir() and len(sources) == 1 and not folder_only:
        raise UserError(
            f"{option} {named}: give a file that ends in {', '.join(suffixes)}, or a folder that "
            "exists or has no suffix"
        )
    else:
        found = _in_folder(path, sources, suffixes[0])
    make_output_folder(option, named, path.parent if is_file else path)
    for target in found.values():
        if any(_same(target, source) for source in sources):
            raise UserError(f"{option} {named} would replace {target}: name another place")
    return found


def _in_folder(folder: Path, sources: Sequence[Path], suffix: str) -> dict[Path, Path]:
    """Name a file for each source: the first of a name keeps it, and the later ones get a number.

    Names are compared as file systems do that ignore case. A number never makes a name that a
    source has itself.
    """
    found: dict[Path, Path] = {}
    own = {source.stem.lower() for source in sources}
    taken: set[str] = set()
    for source in dict.fromkeys(sources):
        name, number = source.stem, 1
        while name.lower() in taken or (number > 1 and name.lower() in own):
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name.lower())
        found[source] = folder / f"{name}{suffix}"
    return found


def _same(target: Path, source: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)
