"""The documentation's blocks: Python is run, command lines and configurations are parsed.

Every block says its language: ``python``, ``bash``, ``yaml``, or ``text`` for what is not code.
A block that cannot be checked stands in ``UNCHECKED`` with the reason.
"""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.testing import assert_close

from reid.config import ReidExperiment
from reid.retrieval.features import FeatureTable, write_features
from tests import naive
from tests.pages import PAGES, REPOSITORY, Block, blocks, blocks_of, name_of
from tests.reid import little
from tests.reid.test_reid_weights import torchreid_model
from tests.reid_trees import write_ilids
from tests.videos import write_video
from tests.written_commands import PROGRAMS, can_be_run, command_lines, parse
from video_snl.blocks import NonlocalBlock
from video_snl.config.image import ImageExperiment
from video_snl.config.video import Experiment, ModelConfig
from video_snl.models.video import build_model
from video_snl.runs import features as video_features

# Of each block that cannot be checked, "page: its first line", why.
UNCHECKED: dict[str, str] = {}

_LANGUAGES = ("python", "bash", "sh", "yaml", "text")


def test_every_block_says_its_language() -> None:
    unsaid = [
        str(block)
        for page in PAGES
        for block in blocks_of(page)
        if block.language not in _LANGUAGES
    ]
    assert unsaid == []


def _checked(*languages: str) -> list[Block]:
    return [
        block
        for block in blocks(*languages)
        if f"{block.page}: {block.text.splitlines()[0]}" not in UNCHECKED
    ]


# What the examples of a page take for granted: names, and files where they are run.


def _features(folder: Path) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)
    np.save(folder / "gallery.npy", gallery.numpy())
    for name, features, camera in (("query", query, 0), ("gallery", gallery, 1)):
        size = len(features)
        table = FeatureTable(
            names=[f"{name}/{row}" for row in range(size)],
            person_ids=np.arange(size) % 4,
            camera_ids=np.full(size, camera),
            num_frames=np.ones(size, dtype=np.int64),
            skipped_frames=np.zeros(size, dtype=np.int64),
            features=features.numpy(),
            model="a1" * 32,
            checkpoint="runs/RUN/checkpoints/best.ckpt",
        )
        write_features(folder / f"{name}.parquet", table)
    return {
        "query": query,
        "gallery": gallery,
        "query_people": [0, 1, 2, 3],
        "gallery_people": [0, 1, 2, 3, 0, 1],
        "query_cameras": [0] * 4,
        "gallery_cameras": [1] * 6,
    }


def _kept(folder: Path) -> dict[str, Any]:
    _features(folder)
    (folder / "gallery.parquet").rename(folder / "feats.parquet")
    return {}


def _people(folder: Path) -> dict[str, Any]:
    identities = [(camera, person) for camera in (1, 2) for person in ("person001", "person002")]
    frames = {
        f"cam{c}/{p}": [f"cam{c}_{p}_{number:05}.png" for number in (1, 2)] for c, p in identities
    }
    write_ilids(folder / "ilids-vid", frames)
    return {}


def _network(folder: Path) -> dict[str, Any]:
    stages = {"layer3": nn.Sequential(*(nn.Conv3d(4, 4, 1) for _ in range(6)))}
    return {"network": nn.Sequential(OrderedDict(stages)), "x": torch.randn(1, 64, 2, 3, 4)}


def _video_features(folder: Path) -> dict[str, Any]:
    table = video_features.FeatureTable(
        paths=["a.avi", "b.avi"],
        clips=np.zeros(2, dtype=np.int32),
        times=np.array([[0, 1.6], [0, 1.6]]),
        labels=["jump", None],
        parts=["train", None],
        features=np.eye(2, 8, dtype=np.float32),
        about={"network": "x3d_xs"},
    )
    for name in ("features.parquet", "videos.npz"):
        video_features.write_features(folder / name, table)
    return {}


def _python(folder: Path) -> dict[str, Any]:
    """Videos, people, and weights of two published networks in the cache of ``_run``."""
    for name in ("jump", "run"):
        for letter in "abcdef":
            write_video(folder / "my_videos" / name / f"{letter}.mp4", frames=30)
    write_video(folder / "archery.mp4", frames=60)
    (folder / "damaged.mp4").write_bytes(b"no video")
    little.write_folder(folder / "people")
    hub = folder / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    model, _ = build_model(ModelConfig(backbone="x3d_xs", block="none"), 400)
    torch.save({"model_state": model.state_dict()}, hub / "X3D_XS.pyth")
    osnet = torchreid_model()
    torch.save({"state_dict": osnet.state_dict()}, hub / "osnet_x0_25_msmt17.pth")
    return {}


_STAND_INS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "docs/blocks.md": _network,
    "docs/features.md": _video_features,
    "docs/galleries.md": _kept,
    "docs/python.md": _python,
    "docs/reid/datasets.md": _people,
    "docs/reid/open-set.md": _features,
    "docs/reid/retrieval.md": _features,
}


# Pages whose Python another test runs, together with what it needs.
_ELSEWHERE = {
    "docs/deployment.md": (
        "tests/export/test_preprocessing.py",
        "test_the_page_needs_no_code_of_the_project",
    ),
    "docs/export.md": ("tests/export/test_export.py", "test_examples_of_the_docs"),
    "docs/extend.md": ("tests/test_extend.py", "test_what_the_page_adds_is_used"),
}
_RUN_HERE = sorted({block.page for block in _checked("python")} - _ELSEWHERE.keys())


@pytest.mark.parametrize("page", _ELSEWHERE)
def test_python_is_run_elsewhere(page: str) -> None:
    path, name = _ELSEWHERE[page]
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    assert Path(page).name in text and f"\ndef {name}(" in text


def _run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python of a page in order, as one program; returns its names."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder / "hub"))
    names: dict[str, Any] = {"__name__": __name__}
    names |= _STAND_INS.get(page, lambda folder: {})(folder)
    for block in _checked("python"):
        if block.page == page:
            text = "\n" * block.line + block.text.replace('"/data/', f'"{folder}/')
            exec(compile(text, page, "exec"), names)  # noqa: S102
    return names


@pytest.mark.parametrize("page", _RUN_HERE)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(page, tmp_path, monkeypatch)


def test_adding_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, _use = [block.text for block in _checked("python") if block.page == "docs/add-a-block.md"]
    assert len([line for line in row.splitlines() if line]) <= 15
    names = _run("docs/add-a-block.md", tmp_path, monkeypatch)
    block = names["TwoHop1d"](8, 4, zero_init=False).double().eval()
    assert isinstance(block, NonlocalBlock)
    x = torch.randn(2, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = x.mT
    theta, phi, z = (naive.linear(w, rows) for w in block.project.weight.split(4))
    matrix = naive.normalized(naive.pairwise(theta.clamp(min=0), phi.clamp(min=0)), "rw")
    steps = naive.product(matrix, naive.product(matrix, z))
    terms = naive.linear(block.sub_blocks[0].combine.weight, steps)
    norm = block.sub_blocks[0].norm
    assert_close(block(x), x + (terms / (1 + norm.eps) ** 0.5).mT)
    clip = torch.randn(1, 3, 4, 32, 32)
    assert names["network"].eval()(clip).shape == (1, 400)
    with pytest.raises(ValueError, match="TwoHop3d in a network of 2 axes, not 3"):
        names["TwoHop3d"](8, ndim=2)


@pytest.mark.parametrize("block", _checked("bash", "sh"), ids=str)
def test_command_lines_are_accepted(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = command_lines(block)
    assert lines, "a block of commands without a command"
    for words in lines:
        with monkeypatch.context() as patched:
            try:
                parse(words, patched)
            except SystemExit as refused:  # of a script's parser, which has said why
                pytest.fail(f"refused ({refused.code}): {shlex.join(words)}")


# Dry runs of whole tables, which count twenty networks; tests/tables has one of a small table.
_SLOW = "video-snl table "


def _quick() -> list[str]:
    written = [words for block in _checked("bash", "sh") for words in command_lines(block)]
    return sorted({shlex.join(words) for words in written if can_be_run(words)})


def _marks(line: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if line.startswith(_SLOW) else []


@pytest.mark.parametrize("line", [pytest.param(line, marks=_marks(line)) for line in _quick()])
def test_quick_commands_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = shlex.split(line)
    try:
        status = PROGRAMS[program](words)
    except SystemExit as ended:  # of --help
        status = ended.code
    out, err = capsys.readouterr()
    assert (status, err) == (0, "") and out


def test_some_commands_are_run() -> None:
    assert len([line for line in _quick() if not _marks(line)]) >= 3


# The sections of all configurations, and the names of their options.
_SECTIONS: dict[str, list[set[str]]] = {}
for _experiment in (Experiment(), ImageExperiment(), ReidExperiment()):
    for _section in fields(_experiment):
        _options = {field.name for field in fields(getattr(_experiment, _section.name))}
        _SECTIONS.setdefault(_section.name, []).append(_options)


def _unknown(text: str) -> list[str]:
    """Keys that are not options: of ``section: {...}``, ``section.option``, or of one section."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode), "no mapping"
    pairs: dict[str, set[str]] = {}
    for key, value in root.value:
        section, dot, option = str(key.value).partition(".")
        if not dot and section in _SECTIONS:
            pairs.setdefault(section, set()).update(str(inner.value) for inner, _ in value.value)
        else:
            pairs.setdefault(section if dot else "", set()).add(option if dot else section)
    unknown = []
    for section, options in pairs.items():
        sets = sum(_SECTIONS.values(), []) if not section else _SECTIONS.get(section, [set()])
        unknown += sorted(min((options - known for known in sets), key=len))
    return unknown


@pytest.mark.parametrize("block", _checked("yaml"), ids=str)
def test_configurations_have_options_that_exist(block: Block) -> None:
    assert _unknown(block.text) == []


def test_a_misspelt_option_is_found() -> None:
    assert _unknown("model:\n  blok: snl\n") == ["blok"]
    assert _unknown("model.sub_blocks: [1]\n") == ["sub_blocks"]
    assert _unknown("backbone: resnet50\nstagse: [1]\n") == ["stagse"]


def test_a_wrong_command_line_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Block("page", 1, "bash", "A=1 video-snl train \\\n  --model.blok none  # a remark\n")
    with pytest.raises(AssertionError, match="video-snl refuses"):
        parse(command_lines(wrong)[0], monkeypatch)
    assert "blok" in capsys.readouterr().err


def test_what_is_unchecked_is_there() -> None:
    first_lines = {
        f"{name_of(page)}: {block.text.splitlines()[0]}"
        for page in PAGES
        for block in blocks_of(page)
    }
    assert UNCHECKED.keys() - first_lines == set()
    assert all(re.search(r"\w", reason) for reason in UNCHECKED.values())
