"""The floors of docs/architecture.md hold: no import from a lower floor to a higher, no circles."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "house.py"


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", SCRIPT)
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def graph(house: ModuleType) -> dict[str, set[str]]:
    known = house.modules()
    assert len(known) > 300
    return {name: house.imports(path, known) - {name} for name, path in known.items()}


def test_imports_go_down(house: ModuleType, graph: dict[str, set[str]]) -> None:
    upward = house.upward(graph)
    assert not upward, "\n".join(f"{a} imports {b}" for a, b in upward)


def test_there_are_no_circles(house: ModuleType, graph: dict[str, set[str]]) -> None:
    assert house.circles(graph) == []
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


def test_video_snl_never_imports_reid(graph: dict[str, set[str]]) -> None:
    for name, targets in graph.items():
        if name.startswith("video_snl"):
            assert not [target for target in targets if target.startswith("reid")], name


def test_what_type_checkers_read_alone_is_no_import(house: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from reid.runs import a\n"
        "def f():\n    from video_snl.blocks import zoo\n    import video_snl.errors\n"
    )
    known = house.modules()
    assert house.imports(file, known) == {"video_snl.blocks.zoo", "video_snl.errors"}
