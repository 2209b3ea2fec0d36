"""What a core installation promises, as a program: torch and numpy are enough for the blocks.

    python -P tests/core_only.py README.md [DISTRIBUTION ...]

The Python of the README is run first. Where distributions are named, all others are hidden, as if
they were not installed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
import tempfile
from importlib import metadata
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path

PIPELINES = ("Prediction", "Predictor", "VideoDataset", "load", "train")


class Only(PathFinder):
    """The finder of what is installed that knows some distributions and the standard library."""

    distributions: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        top = fullname.partition(".")[0]
        standard = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        if not standard and top not in cls.modules:
            return None
        return super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *words, **named):
        found = PathFinder.find_distributions(*words, **named)
        return (one for one in found if normal(one.metadata["Name"]) in cls.distributions)


def normal(name: str) -> str:
    """Return the name of a distribution as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hide_all_but(distributions: list[str]) -> None:
    """Let nothing be imported but this package, these distributions and the standard library."""
    Only.distributions = frozenset(distributions)
    owners = metadata.packages_distributions()
    own = {module for module, of in owners.items() if Only.distributions & {*map(normal, of)}}
    Only.modules = frozenset({"video_snl", "reid", *own})
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Only]


def run_blocks() -> None:
    import torch

    import video_snl
    from video_snl.blocks import NAMES, make_block
    from video_snl.blocks.insertion import insert_blocks, remove_blocks

    for name in video_snl.__all__:
        if name in PIPELINES:
            continue
        assert getattr(video_snl, name).__name__ == name
    for name in PIPELINES if Only.distributions else ():
        try:
            getattr(video_snl, name)
        except ImportError as error:
            said = f"video_snl.{name} needs packages that are not installed ("
            extra = "video" if name == "VideoDataset" else "train"
            assert str(error).startswith(said), error
            assert f"pip install 'video-snl[{extra}]'" in str(error), error
        else:
            raise AssertionError(f"{name} needs no more than torch and numpy")
    for name in NAMES:
        block = make_block(name, 8, ndim=2, num_units=1)
        x = torch.randn(2, 8, 4, 4, requires_grad=True)
        block(x).sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape, name
        with tempfile.NamedTemporaryFile(suffix=".pth") as file:
            torch.save(block.state_dict(), file)
            file.flush()
            assert type(video_snl.load_block(file.name)) is type(block), name
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    x = torch.randn(2, 3, 8, 8)
    expected = network(x)
    insert_blocks(network, "snl", ["after:0"])
    assert torch.equal(network(x), expected) and len(list(network.modules())) > 3
    remove_blocks(network)
    assert torch.equal(network(x), expected) and len(list(network.modules())) == 3


def run_programs() -> None:
    """Ask both programs what they are, and for every command; each asks for its extra."""
    for program in ("video_snl", "reid"):
        cli = importlib.import_module(f"{program}.cli.main")
        name = program.replace("_", "-")
        assert f"usage: {name} " in _said(cli.main, ["--help"], 0)
        assert f"{name} 0." in _said(cli.main, ["--version"], 0)
        assert "unknown command trian: the nearest is train" in _said(cli.main, ["trian"], 2)
        # The commands of galleries are a word further; what there are, needs no package to be said.
        commands = {(c,): declared for c, declared in cli._COMMANDS.items() if c != "gallery"}
        if program == "reid":
            own = importlib.import_module("reid.cli.gallery").GALLERY_COMMANDS
            commands |= {("gallery", c): declared for c, declared in own.items()}
        for command, declared in commands.items():
            extras = ",".join(declared.extras)
            expected = re.compile(
                rf"{name} {' '.join(command)}: error: needs packages that are not installed "
                rf"\(jsonargparse, .* and \d+ more\): pip install 'video-snl\[{extras}\]'\n"
            )
            for words in ([*command], [*command, "--help"]):
                said = _said(cli.main, words, 2)
                assert expected.fullmatch(said), said


def _said(main, words: list[str], code: int) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            found = main(words)
        except SystemExit as stopped:
            found = stopped.code or 0
    assert found == code, (words, found, out.getvalue())
    return out.getvalue()


if __name__ == "__main__":
    readme, *distributions = sys.argv[1:]
    if distributions:
        hide_all_but(distributions)
    blocks = re.findall(r"^```python\n(.*?)^```", Path(readme).read_text("utf-8"), re.S | re.M)
    assert blocks
    for block in blocks:
        exec(compile(block, readme, "exec"), {})
    run_blocks()
    run_programs()
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"jsonargparse", "yaml", "lightning", "torchvision", "av"}
    print("core: all that is promised")
