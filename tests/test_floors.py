"""No circles of imports, and true figures of the code; lint-imports checks the floors (.ci/run)."""

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
    assert len(known) > 200
    return {name: house.imports(path, known) - {name} for name, path in known.items()}


def test_there_are_no_circles(house: ModuleType, graph: dict[str, set[str]]) -> None:
    assert house.circles(graph) == []
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


def test_floors_are_those_of_the_contract(house: ModuleType, graph: dict[str, set[str]]) -> None:
    assert house.FLOORS[0] == {"blocks", "config", "utils", "errors"}
    assert house.floor("video_snl.blocks.zoo") == 0 and house.floor("reid.runs") == 6
    assert house.upward(
        {"video_snl.errors": {"video_snl.engine.train", "video_snl.utils.text"}}
    ) == [("video_snl.errors", "video_snl.engine.train")]
    assert all(house.floor(name) < len(house.FLOORS) for name in graph)


def test_scripts_import_what_is_there(
    house: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.faults_of_scripts() == []
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "tool.py").write_text("from video_snl.gone import name\nimport ast\n")
    (tmp_path / "video_snl").mkdir()
    (tmp_path / "video_snl" / "user.py").write_text("import tool\n")
    monkeypatch.setattr(house, "ROOT", tmp_path)
    assert house.faults_of_scripts() == [
        "scripts/tool.py imports video_snl.gone, which is not there",
        "video_snl.user imports the script tool",
    ]


def test_what_type_checkers_read_alone_is_no_import(house: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from reid.runs import a\n"
        "def f():\n    from video_snl.blocks import zoo\n    import video_snl.errors\n"
    )
    known = house.modules()
    assert house.imports(file, known) == {"video_snl.blocks.zoo", "video_snl.errors"}
