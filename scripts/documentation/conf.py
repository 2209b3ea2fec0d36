"""Sphinx's settings for the site: everything local, every warning an error (scripts/docs.sh)."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

import video_snl

project = "video-snl"
author = copyright = "video-snl contributors"
version = release = video_snl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist", "html_image"]
myst_heading_anchors = 6

# Quotes and dashes of options stay what is to be typed.
smartquotes = False

html_theme = "furo"
html_title = "video-snl"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_custom_sections = [("Shapes", "returns_style")]
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_ROLES_AND_CODE = re.compile(r"(``.+?``|:\w+:`[^`]+`)", re.DOTALL)


def _escaped(text: str) -> str:
    """Escape stars and bars of formulas; docstrings use neither for markup."""
    pieces = _ROLES_AND_CODE.split(text)
    pieces[::2] = [re.sub(r"(?<!\\)([*|]|_(?!\w))", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _literal(lines: list[str]) -> list[bool]:
    """Mark the lines of indented blocks below a paragraph and an empty line."""
    result: list[bool] = []
    last, before, literal = "", "", False
    for line in lines:
        indented = line.startswith(" ")
        begins = indented and not before and bool(last) and not last.startswith(" ")
        literal = begins or (literal and (indented or not line))
        result.append(literal)
        last, before = line or last, line
    return result


def _as_markup(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Turn docstrings into markup for Sphinx: an indented block is shown as it is written."""
    result: list[str] = []
    for literal, group in groupby(
        zip(_literal(lines), lines, strict=True), key=lambda pair: pair[0]
    ):
        text = [line for _, line in group]
        result += ["::", "", *text] if literal else _escaped("\n".join(text)).split("\n")
    lines[:] = result


def setup(app: Sphinx) -> None:
    # Before napoleon, which makes markup of the sections.
    app.connect("autodoc-process-docstring", _as_markup, priority=100)
