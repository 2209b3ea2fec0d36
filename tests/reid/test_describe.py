"""``reid describe``: figures that can be counted by hand."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from reid.config import ReidDataConfig, ReidExperiment, ReidModelConfig
from reid.task_spec import REID
from tests.reid.networks import SIZE, network
from video_snl.commands.describe import describe, network_facts


@functools.cache
def facts_of(frames: int = 4, **options: Any) -> dict[str, Any]:
    return network_facts(REID.make(), network(**options), (3, frames, *SIZE), 5)


def test_a_block_costs_what_its_formula_says() -> None:
    bare, facts = facts_of(), facts_of(block="snl")
    block = next(found for found in facts["blocks"] if found["position"] == "after:conv3")
    # T x 4 x 2 positions of 96 channels, Cs = 48: three projections, two weights and the norm.
    positions, wide, narrow = 4 * 4 * 2, 96, 48
    assert block["parameters"] == 5 * wide * narrow + 2 * wide
    assert block["multiply_adds"] == positions * (5 * wide * narrow + 2 * wide)
    assert block["multiply_adds_with_affinity"] > block["multiply_adds"]
    for key in ("parameters", "multiply_adds"):
        assert facts[key] - bare[key] == sum(found[key] for found in facts["blocks"])


def test_multiply_adds_of_the_trunk_grow_with_the_frames() -> None:
    four, eight = facts_of()["multiply_adds"], facts_of(8)["multiply_adds"]
    assert 2 * four - eight == 128 * 5 + 2 * 128  # classifier and neck


def test_a_recurrent_head_is_counted() -> None:
    difference = facts_of(head="rnn")["multiply_adds"] - facts_of()["multiply_adds"]
    assert difference == 4 * 3 * 128 * (128 + 128)


def test_the_block_of_the_head_is_listed() -> None:
    facts = facts_of(backbone="i3d_small", head="nonlocal3d")
    assert [(block["name"], block["position"]) for block in facts["blocks"]] == [("SNL3d", "head")]


@pytest.mark.parametrize("backbone", ["osnet_x0_25", "i3d_small"])
def test_the_table_names_layers_and_blocks(
    capsys: pytest.CaptureFixture[str], backbone: str
) -> None:
    experiment = ReidExperiment(
        ReidDataConfig(dataset="mars"),
        ReidModelConfig(backbone=backbone, weights="not-looked-at.pth"),
    )
    assert describe(experiment, REID, as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["people"] == 625
    assert describe(experiment, REID, as_json=False) == 0
    table = capsys.readouterr().out
    for word in ("625 people", "classifier", "neck", f"{facts['parameters']:,}"):
        assert word in table
    for block in facts["blocks"]:
        assert f"SNL3d {block['position']}: {block['parameters']:,} parameters" in table
    assert ("see single frames" in table) == (backbone == "osnet_x0_25")


@pytest.mark.parametrize(
    ("dataset", "identities"),
    [("mars", 625), ("ilids-vid", 150), ("prid2011", 89), ("sample", 40), ("folder", 100)],
)
def test_people_without_looking_at_data(dataset: str, identities: int) -> None:
    experiment = ReidExperiment(ReidDataConfig(dataset=dataset))
    assert REID.make().label_count(experiment) == identities


def test_people_of_a_folder(tmp_path: Path) -> None:
    for place in ("train/0003", "train/0008", "query/0005", "gallery/0005", "gallery/-1"):
        for camera in ("1", "2"):
            frames = tmp_path / place / camera / "1"
            frames.mkdir(parents=True)
            (frames / "1.jpg").write_bytes(b"not looked at")
    experiment = ReidExperiment(ReidDataConfig(dataset="folder", root=str(tmp_path)))
    assert REID.make().label_count(experiment) == 2
