"""Pages of the command lines' options, from the parsers that read them. Without torch."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from reid.cli.gallery import GALLERY_COMMANDS
from video_snl.cli.main import IMAGE_COMMANDS
from video_snl.config.parsing import Commands

cli = importlib.import_module("video_snl.cli.main")  # main is a function there

reid_cli = importlib.import_module("reid.cli.main")  # main is a function there

__all__ = ["command_pages"]

_OPTION = re.compile(r"  (\S.*?)(?:\s{2,}(\S.*))?")
_IMAGES = "{}, of networks of images"


def command_pages() -> dict[str, str]:
    """Return the Markdown of a page for each program, by the page's name."""
    with _wide_terminal():
        images = {
            _IMAGES.format(f"video-snl {name}"): ("video-snl", name, commands)
            for commands in [IMAGE_COMMANDS]
            for name in commands
        }
        videos = {f"video-snl {name}": ("video-snl", name, cli._COMMANDS) for name in cli._COMMANDS}
        identities = {
            f"reid {name}": ("reid", name, reid_cli._COMMANDS) for name in reid_cli._COMMANDS
        }
        galleries = {
            f"reid gallery {name}": ("reid gallery", name, GALLERY_COMMANDS)
            for name in GALLERY_COMMANDS
        }
        return {
            "video-snl": _page("Options of video-snl", {**videos, **images}),
            "reid": _page("Options of reid", {**identities, **galleries}),
        }


@contextmanager
def _wide_terminal() -> Iterator[None]:
    """Pretend a very wide terminal, so that help texts are not broken."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _page(title: str, commands: dict[str, tuple[str, str, Commands]]) -> str:
    parts = [f"# {title}", "What `--help all` says, made from the parsers of the commands."]
    for heading, (program, name, of_program) in commands.items():
        parser = of_program[name].parser(f"{program} {name}")
        printable = re.sub(r"[^\n -~]", "", parser.format_help())
        parts += [f"## {heading}", *_sections(printable)]
    return "\n\n".join(parts) + "\n"


def _sections(text: str) -> Iterator[str]:
    """Split a help text into its description and its groups of options as lists of definitions."""
    _usage, *paragraphs = text.strip().split("\n\n")
    for paragraph in paragraphs:
        title, *lines = paragraph.split("\n")
        if not (title.endswith(":") and lines and lines[0].startswith("  ")):
            yield _escaped(" ".join(paragraph.split()))
            continue
        yield f"**{_escaped(title.removesuffix(':'))}**"
        yield "\n\n".join(f"`` {name} ``\n: {_escaped(text)}" for name, text in _options(lines))


def _options(lines: list[str]) -> list[tuple[str, str]]:
    """List names and explanations; an explanation stands after its name, or below a long one."""
    found: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith("   ") and found:
            name, text = found[-1]
            found[-1] = name, f"{text} {line.strip()}".strip()
        elif line.startswith("  -h"):
            continue
        elif match := _OPTION.fullmatch(line):
            found.append((match[1], match[2] or ""))
        else:
            found.append((line.strip(), ""))
    return [(name, text or "-") for name, text in found]


def _escaped(text: str) -> str:
    """Return plain text with ``code`` as Markdown."""
    pieces = re.split(r"(``.+?``)", text)
    return "".join(
        piece if piece.startswith("``") else re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", piece)
        for piece in pieces
    )
