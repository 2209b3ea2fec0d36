"""What an installation with few packages can do, and what it says where more are needed."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from video_snl.config.options import Json
from video_snl.config.parsing import Command, run_command
from video_snl.errors import UserError
from video_snl.utils import extras

REPOSITORY = Path(__file__).resolve().parent.parent

_POSTGRES = ("connection", "postgres", "schema")
# Packages whose modules import with an extra; packages and modules that need a further one are
# left out.
MODULES = {
    "video": ("video_snl/data/decoding", "video_snl/data/video", "video_snl/models"),
    "train": ("video_snl", "!video_snl/analysis", "!video_snl/serve"),
    "explain": ("video_snl/analysis",),
    "export": ("video_snl/export",),
    "reid": ("reid", "!reid/apps", *(f"!reid/galleries/{name}" for name in _POSTGRES)),
    "postgres": ("reid/galleries",),
    "serve": ("video_snl/serve",),
}


def _setup(section: str, option: str) -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = setup[section][option].split("\n")
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def _names_of_extras() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    return list(setup["options.extras_require"])


def _extra(name: str) -> list[Requirement]:
    return _setup("options.extras_require", name)


def _closure(requirements: list[Requirement]) -> set[str]:
    """Return the distributions that these bring, by the metadata of what is installed here."""
    found: set[str] = set()
    waiting = list(requirements)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name, of = canonicalize_name(one.name), frozenset(one.extras)
        if (name, of) in seen:
            continue
        seen.add((name, of))
        if name == "video-snl":
            waiting += [each for extra in of for each in _extra(extra)]
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # such as what another platform needs
            continue
        for each in map(Requirement, lines):
            marker = each.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *of)):
                waiting.append(each)
    return found


def _run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_core_is_torch_numpy_and_what_torch_needs() -> None:
    core = _setup("options", "install_requires")
    assert {one.name for one in core} == {"numpy", "torch"}
    brought = _closure(core) - _closure([Requirement("torch")])
    assert brought == {"numpy"}


def test_the_blocks_need_nothing_else_and_the_programs_say_what_they_need() -> None:
    core = _closure(_setup("options", "install_requires"))
    assert {"numpy", "torch"} <= core and "pyyaml" not in core
    said = _run("-P", "tests/core_only.py", "README.md", *sorted(core))
    assert said == "core: all that is promised\n"


def test_the_extras_are_those_of_the_table() -> None:
    names = {*_names_of_extras()} - {"all", "dev", "docs"}
    assert names == {*extras.PACKAGES}
    for name in names:
        own = {canonicalize_name(one.name) for one in _extra(name)} - {"video-snl"}
        assert own == {*extras.PACKAGES[name].values()}
        included = [each for one in _extra(name) for each in one.extras if one.name == "video-snl"]
        assert included == ([extras.INCLUDED[name]] if name in extras.INCLUDED else [])
    [everything] = _extra("all")
    assert everything.name == "video-snl"
    assert everything.extras == names - {"torchcodec", "wandb"}


def test_decord_is_asked_for_where_it_has_files() -> None:
    [decord] = [one for one in _extra("video") if one.name == "decord"]
    assert decord.marker is not None
    here = {"platform_system": "Linux", "platform_machine": "x86_64"}
    assert decord.marker.evaluate(here)
    for other in ({"platform_machine": "aarch64"}, {"platform_system": "Darwin"}):
        assert not decord.marker.evaluate({**here, **other})


@pytest.mark.slow
@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_is_enough_for_its_modules(extra: str) -> None:
    folders = [folder for folder in MODULES[extra] if not folder.startswith("!")]
    left_out = [name[1:] for name in MODULES[extra] if name.startswith("!")]
    others = tuple(f"{name}{end}" for name in left_out for end in ("/", ".py"))
    files = sorted(file for folder in folders for file in (REPOSITORY / folder).rglob("*.py"))
    names = [file.relative_to(REPOSITORY).as_posix() for file in files]
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in names
        if not name.startswith(others) and not name.endswith("__main__.py")
    ]
    core = _setup("options", "install_requires")
    allowed = sorted(_closure([*core, Requirement(f"video-snl[{extra}]")]))
    code = (
        "import importlib, sys\n"
        "from tests.core_only import hide_all_but\n"
        f"hide_all_but({allowed!r})\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    assert len(modules) > 5
    _run("-c", code)


def _command(missing: str, *extras: str) -> Command:
    def run(arguments: object) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    return Command("Do it.", Json, run, extras=extras)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "extras_of_command", "line"),
    [
        ("yaml", ["train"], r"\(pyyaml\): pip install 'video-snl\[train\]'"),
        ("yaml.nodes", ["train"], r"\(pyyaml\): pip install 'video-snl\[train\]'"),
        ("yaml", ["explain"], r"\(pyyaml\): pip install 'video-snl\[explain\]'"),
        ("av", ["reid", "serve"], r"\(av\): pip install 'video-snl\[reid,serve\]'"),
        ("faiss", ["train"], r"\(faiss-cpu\): pip install 'video-snl\[reid\]'"),
        ("my_reader", ["train"], r"needs the module my_reader, .*No module named 'my_reader'"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(
    missing: str,
    extras_of_command: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = extras.find_spec
    top = missing.partition(".")[0]
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == top else real(name))
    commands = {"do": _command(missing, *extras_of_command)}
    code = run_command("program", "", commands, ["do"], lambda parser, command, given: given)
    said = capsys.readouterr()
    assert code == 2 and not said.out and said.err.count("\n") == 1
    assert re.match(rf"program do: error: .*{line}", said.err)


def test_a_missing_module_of_our_own_is_a_fault_of_ours() -> None:
    commands = {"do": _command("video_snl.nowhere", "train")}
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        run_command("program", "", commands, ["do"], lambda parser, command, given: given)


def test_packages_that_are_there_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    extras.require("serve", "export")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "decord" else object())
    extras.require("video")  # PyAV reads where there is no decord
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\(av, .* more\): pip install 'video-snl\[export\]'"):
        extras.require("export")
