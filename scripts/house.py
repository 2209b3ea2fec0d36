#!/usr/bin/env python
"""Measure how the code is laid out: lines, floors, circles, files that a reader has to enter.

    python scripts/house.py             the import graph, read and not run
    python scripts/house.py --entered   the files that commands enter, too: run on little videos

Nothing is asserted about the figures: they are for readers. Floors are those of the contract in
pyproject.toml, which lint-imports checks. An import inside a function counts as one at the top of
its file; imports for type checkers do not. lint-imports does not see scripts/, which is not a
package: this script names what is wrong with its imports, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("video_snl", "reid")


def floors() -> list[set[str]]:
    """Return the folders and modules of video_snl on each floor, from the ground."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [contract] = [contract for contract in contracts if contract["id"] == "floors"]
    return [set(layer.split(" | ")) for layer in reversed(contract["layers"])]


FLOORS = [*floors(), {"reid"}]

# The contract leaves these out: a package passes names on, and __main__ calls the command line.
_OUTSIDE = {"SNL3d": 0, "_version": 0, "__init__": 0, "__main__": 5}


def modules() -> dict[str, Path]:
    """Return the file of every module, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(name)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the own modules that a file imports, wherever in it."""
    found = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            modules_below = below & known.keys()
            found |= modules_below
            if len(modules_below) < len(below):
                found.add(node.module)
    return found & known.keys()


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree past what only type checkers read."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def floor(name: str) -> int:
    """Return the floor of a module, 0 on the ground."""
    parts = name.split(".")
    own = "reid" if parts[0] == "reid" else parts[1] if len(parts) > 1 else "__init__"
    if own in _OUTSIDE:
        return _OUTSIDE[own]
    return next(number for number, names in enumerate(FLOORS) if own in names)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import one another (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def upward(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports of a module on a higher floor; packages only pass names on."""
    known = modules()
    plain = {name for name, path in known.items() if path.name != "__init__.py"}
    return sorted((a, b) for a in graph for b in graph[a] & plain if floor(b) > floor(a))


def faults_of_scripts() -> list[str]:
    """Return what is wrong with imports between scripts/ and the packages."""
    known = modules()
    scripts = sorted((ROOT / "scripts").rglob("*.py"))
    names = {path.stem for path in scripts}
    faults = []
    for path in scripts:
        for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node):
                if target.partition(".")[0] in PACKAGES and target not in known:
                    faults.append(f"{path.relative_to(ROOT)} imports {target}, which is not there")
    for name, path in known.items():
        for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node):
                if target.partition(".")[0] in names | {"scripts"}:
                    faults.append(f"{name} imports the script {target}")
    return faults


def _targets(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports by their whole names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def entered(run: Callable[[], Any]) -> list[str]:
    """Return the own files of which a function is entered in this process while ``run`` runs.

    What runs because a module is imported does not count: no reader has to follow it.
    """
    files = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not _imports(frame):
            files.add(frame.f_code.co_filename)

    def _imports(frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code is not entered.__code__:
            if frame.f_code.co_name == "<module>":
                return True
            frame = frame.f_back
        return False

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    own = [str(ROOT / package) + os.sep for package in PACKAGES]
    return sorted(file for file in files if file.startswith(tuple(own)))


def _videos(folder: Path) -> None:
    """Write eight videos of two classes into class folders."""
    import av
    import numpy as np

    for number in range(8):
        path = folder / ("jump", "run")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for frame in range(16):
                pixels = np.full((64, 64, 3), 10 * frame + number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())


def _print_entered() -> None:
    import importlib

    import torch

    from video_snl import SNL3d

    main = importlib.import_module("video_snl.cli.main").main
    block = SNL3d(64)
    x = torch.zeros(1, 64, 2, 4, 4)
    shown = {
        "SNL3d(64), construction": entered(lambda: SNL3d(64)),
        "SNL3d(64), forward": entered(lambda: block(x)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _videos(folder / "videos")
        data = ["--data.dataset", "folder", "--data.root", str(folder / "videos")]
        small = ["--data.clip_frames", "4", "--data.short_side", "32", "--data.crop", "32"]
        short = ["--optimizer.epochs", "1", "--optimizer.batch_size", "2"]
        quiet = ["--trainer.progress", "false", "--trainer.accelerator", "cpu"]
        place = ["--trainer.output", str(folder / "runs"), "--data.num_workers", "0"]
        commands = {
            "train on 8 videos": ["train", *data, *small, *short, *quiet, *place],
            "describe": ["describe", *data, *small],
        }
        for command, words in commands.items():
            shown[command] = entered(partial(_quietly, main, words))
        [run] = (folder / "runs").iterdir()
        words = ["predict", "--checkpoint", str(run), "--accelerator", "cpu"]
        words.append(str(folder / "videos"))
        shown["predict on a folder"] = entered(partial(_quietly, main, words))
    for command, files in shown.items():
        print(f"own files entered, {command}: {len(files)}")


def _quietly(main: Callable[[list[str]], int], words: list[str]) -> None:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        code = main(words)
    if code != 0:
        raise SystemExit(f"{words[0]} ended with exit code {code}: {said.getvalue()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entered", action="store_true", help="run commands, too")
    parser.add_argument("--list", action="store_true", help="name the imports and circles")
    arguments = parser.parse_args()
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in known.values())
    used: dict[str, int] = dict.fromkeys(known, 0)
    for targets in graph.values():
        for target in targets:
            used[target] += 1
    plain = [name for name in known if known[name].name != "__init__.py"]
    groups = circles(graph)
    root = [path for path in (ROOT / "video_snl").glob("*.py")]
    print(f"Python lines of video_snl and reid: {lines:,} in {len(known)} files")
    print(f"modules at the root of video_snl: {len(root)}")
    print(
        f"modules imported by exactly one other: {sum(used[n] == 1 for n in plain)} of {len(plain)}"
    )
    print(f"floors: {len(FLOORS)}; imports from a lower floor to a higher: {len(upward(graph))}")
    print(f"circles: {len(groups)}")
    if arguments.list:
        for a, b in upward(graph):
            print(f"  upward: {a} -> {b}")
        for group in groups:
            print(f"  circle: {', '.join(group)}")
    if arguments.entered:
        _print_entered()
    faults = faults_of_scripts()
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
