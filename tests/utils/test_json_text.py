"""JSON that every reader takes."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest

from video_snl.utils.files import write_json
from video_snl.utils.json_text import to_json

ROOT = Path(__file__).resolve().parents[2]


def strict(text: str) -> object:
    def refuse(name: str) -> object:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [1.5, (-math.inf, np.float64("nan"))], "c": {"d": math.inf}}
    wanted = {"a": None, "b": [1.5, [None, None]], "c": {"d": None}}
    assert strict(to_json(value)) == wanted
    write_json(tmp_path / "metrics.json", value)
    assert strict((tmp_path / "metrics.json").read_text()) == wanted
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", value, finite=True)


def test_finite_values_are_written_as_by_json() -> None:
    value = {"b": [1, 2.5, None, True, "é"], "a": {1: "x"}}
    assert to_json(value) == json.dumps(value)
    assert to_json(value, indent=2, sort_keys=False) == json.dumps(value, indent=2)
    assert to_json({"a": Path("b")}, default=str) == '{"a": "b"}'
    with pytest.raises(TypeError):
        to_json({"a": Path("b")})


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        to_json(value)


def test_no_other_module_writes_json() -> None:
    """JSON has one writer: elsewhere a bare NaN would come back."""
    writers = set()
    for folder in ("video_snl", "reid", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "json.dump" in text else ():
                if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                    "json.dump",
                    "json.dumps",
                ):
                    writers.add(path.relative_to(ROOT).as_posix())
    assert writers == {"video_snl/utils/json_text.py"}
