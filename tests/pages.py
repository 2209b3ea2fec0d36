"""The pages of the documentation, and the blocks of code and the links on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
_READER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block of code; ``language`` is empty where the page does not say it."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in order, indented ones (without a language) as well."""
    return [
        Block(name_of(page), (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in _tokens(page)
        if token.type in ("fence", "code_block")
    ]


def blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def links_of(page: Path) -> list[str]:
    """The targets of a page's links and images, also of those that are written as HTML."""
    tokens = _tokens(page)
    children = [child for token in tokens for child in token.children or []]
    found = [child.attrGet("href") or child.attrGet("src") for child in children]
    html = [token.content for token in (*tokens, *children) if token.type.startswith("html_")]
    targets = re.findall(r'\b(?:href|src)="([^"]*)"', "\n".join(html))
    return [str(target) for target in found if target is not None] + targets


def anchors_of(page: Path) -> set[str]:
    """The names that the headings of a page have, as in a repository's web view and on the site."""
    tokens = _tokens(page)
    headings = [
        tokens[place + 1] for place, token in enumerate(tokens) if token.type == "heading_open"
    ]
    return {_anchor(heading) for heading in headings}


def _anchor(heading: Token) -> str:
    text = "".join(child.content for child in heading.children or [])
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@cache
def _tokens(page: Path) -> list[Token]:
    return _READER.parse(page.read_text(encoding="utf-8"))
