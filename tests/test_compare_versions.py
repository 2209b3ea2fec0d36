"""Two versions compared: nothing differs from itself, and what was changed is found."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

# Stands for both programs: commands that only have a help text.
_PROGRAM = """

HELP = '''usage: program {{train,predict}} ...

options:
  -h, --help            Show this help message and exit.
'''
COMMAND = '''usage: program train [--reader {{auto,pyav}}]

options:
  -h, --help            Show this help message and exit.
{options}
'''


def main(words):
    print(COMMAND if words[0] in ("train", "predict") else HELP)
    return 0
"""
_OPTIONS = """  --reader {auto,pyav}  What decodes. (default: auto)
  -o FILE, --output FILE
                        Where it is
                        written to."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("compare_versions")


def write_checkout(root: Path, options: str) -> Path:
    for package in ("video_snl", "reid"):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
        (root / package / "cli.py").write_text(_PROGRAM.format(options=options))
    return root


def probe(values: Any) -> dict[str, Any]:
    return {"probe": values}


def test_a_version_has_all_options_of_itself_and_lacks_what_was_taken_out(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_checkout(tmp_path / "old", _OPTIONS)
    changed = _OPTIONS.replace("--output", "--out").replace("{auto,pyav}", "{auto,other}")
    new = write_checkout(tmp_path / "new", changed)
    words = ["--only", "help", "--lines", "1000"]
    # Those of defaults fail: there is no --print_config.
    script.main([str(old), str(old), *words])
    same = capsys.readouterr().out
    assert "missing" not in same and "only in NEW" not in same.split("\n\n", 2)[2]
    assert script.main([str(old), str(new), *words]) == 1
    said = capsys.readouterr().out
    assert "video_snl train --output: missing in NEW" in said
    assert "reid predict --reader: pyav missing in NEW" in said
    assert "video_snl train --out\n" in said.split("only in NEW")[-1]


def test_blocks_equal_themselves_to_the_bit(script: ModuleType) -> None:
    values = importlib.import_module("version_probes").block_values("snl", 2)
    found = script.compare(probe(values), probe(copy.deepcopy(values)), "blocks")
    assert found.differences == found.additions == []
    assert found.equal == found.values > 1000 and found.largest == 0
    gradients = copy.deepcopy(values["gradients"])
    name = next(iter(gradients))
    gradients[name] = gradients[name] * (1 + 1e-9)
    changed = {**values, "gradients": gradients}
    found = script.compare(probe(values), probe(changed), "blocks")
    [line] = found.differences
    assert line.startswith(f"probe.gradients.{name}: relative difference 1.0e-09")
    # The bound of losses is wider.
    assert script.compare(probe(values), probe(changed), "losses").differences == []


@pytest.mark.parametrize(
    ("old", "new", "differences", "additions"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, 0, 1),
        ({"a": 1, "b": 2}, {"a": 1}, 1, 0),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, 1, 0),
        ({"a": 1.0}, {"a": 1.1}, 1, 0),
        ({"a": 0.0}, {"a": 1e-9}, 1, 0),
        ({"a": float("nan")}, {"a": float("nan")}, 0, 0),
        ({"a": 1.0}, {"a": float("nan")}, 1, 0),
        ({"a": None}, {"a": 0}, 1, 0),
        ({"a": True}, {"a": 1}, 1, 0),
        ({"a": "cat"}, {"a": "dog"}, 1, 0),
        ({"a": "it is a cat"}, {"a": "a cat it is"}, 0, 0),
        ({"a": np.zeros(3)}, {"a": np.zeros(4)}, 1, 0),
        ({"a": np.zeros(3, "f4")}, {"a": np.zeros(3)}, 1, 0),
    ],
)
def test_values(script: ModuleType, old: Any, new: Any, differences: int, additions: int) -> None:
    found = script.compare(probe(old), probe(new), "losses")
    assert len(found.differences) == differences
    assert len(found.additions) == additions


def test_what_fails_in_both_is_a_difference(script: ModuleType) -> None:
    failed = importlib.import_module("version_probes").Failed("a reason")
    found = script.compare(probe(failed), probe(failed), "losses")
    assert len(found.differences) == 2


def test_a_version_that_cannot_be_asked(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_checkout(tmp_path / "old", _OPTIONS)
    (tmp_path / "new").mkdir()
    assert script.main([str(old), str(tmp_path / "new"), "--only", "help"]) == 2
    assert "the probes of NEW ended" in capsys.readouterr().err


def test_a_folder_without_a_version_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the installed version would be, by that folder's name."""
    monkeypatch.syspath_prepend(str(SCRIPTS / "benchmarks"))
    speed = importlib.import_module("compare_speed")
    with pytest.raises(SystemExit, match="is no checkout: it has no folder video_snl"):
        speed.main([str(tmp_path), str(tmp_path)])


def test_speeds_are_compared_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS / "benchmarks"))
    speed = importlib.import_module("compare_speed")
    row = speed.table({"block": [1.0, 2.0, 4.0]}, {"block": [2.0, 1.0, 2.0]}).splitlines()[-1]
    assert row == "| block | 1.0000 | 2.0000 | 1.0000 | 2.0000 | 1.000 | 0.500 |"


def test_a_process_of_a_version_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS / "benchmarks"))
    speed = importlib.import_module("compare_speed")
    checkout = write_checkout(tmp_path / "checkout", _OPTIONS)
    (checkout / "video_snl" / "__main__.py").write_text(
        "from video_snl.cli import main\nmain(['x'])"
    )
    with speed.Version(checkout, tmp_path / "work", tmp_path) as version:
        [(name, seconds)] = version.measure("help").items()
    assert name == "help" and 0 < seconds < 60
