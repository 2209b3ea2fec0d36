"""No message tells users to destroy their data, or to move what they were asked for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DESTROYS = re.compile(
    r"(^|[,:;.] |\bor |\band )(remove|delete|erase|wipe) (it|them|one|the \w+|this|that|\{)"
    r"|\bmove (it|them) away\b|\bmove the (folder|file)s?\b",
    re.IGNORECASE,
)


def _messages(source: str) -> Iterator[str]:
    """All texts but docstrings, f-strings joined."""
    tree = ast.parse(source)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in documented:
            yield str(node.value)


@pytest.mark.parametrize("package", ["video_snl", "reid", "scripts"])
def test_no_message_tells_to_destroy(package: str) -> None:
    said = [
        (file, message)
        for file in sorted((ROOT / package).rglob("*.py"))
        for message in _messages(file.read_text(encoding="utf-8"))
    ]
    assert len(said) > 1000
    found = [
        f"{file.relative_to(ROOT)}: {message}" for file, message in said if DESTROYS.search(message)
    ]
    found += [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in sorted((ROOT / package).glob("*.sh"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if "_fail" in line and DESTROYS.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "advice", ["exists: delete it", "move the folder elsewhere", "{} or erase {}"]
)
def test_such_advice_is_found(advice: str) -> None:
    [message] = _messages(f"say({advice!r})")
    assert DESTROYS.search(message)
