"""Published folders and exported files that say something wrong of themselves: one line."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.checkpoints import image_checkpoint, video_checkpoint
from video_snl.commands.publish import publish
from video_snl.config.task_spec import IMAGE, VIDEO
from video_snl.errors import UserError
from video_snl.export.inputs import Input
from video_snl.export.networks import checked_facts
from video_snl.runs.published import CONFIG_DIGEST, WEIGHTS_DIGEST, stored_facts
from video_snl.runs.trained import find_trained, load_trained

GONE = object()
INPUT = Input("clips", (4, 32, 32), (4, 32, 32), ("batch", "frames")).facts()

# Where a value stands, what is put there, and what is said of it.
OF_THE_NETWORK: list[tuple[str, Any, str]] = [
    ("program", None, "program: expected a text, found None"),
    ("format_version", "1", "format_version: expected a whole number, found '1'"),
    ("format_version", 99, "has checkpoint format 99"),
    ("format_version", None, "format_version: expected a whole number, found None"),
    ("mean", [10**400, 1, 1], "mean: expected a list, each entry a number"),
    ("epoch", "4", "epoch: expected a whole number, found '4'"),
    ("epoch", GONE, "it has no entry 'epoch'"),
    ("class_names", None, "class_names: expected a list, each entry a text, found null"),
    ("class_names", {"0": "Bow"}, "class_names: expected a list, each entry a text, found {"),
    ("class_names", [], "class_names: expected at least one entry"),
    ("mean", "0.4", "mean: expected a list, each entry a number, found '0.4'"),
    ("mean", [0.4, 0.5], "mean: expected three finite numbers, found [0.4, 0.5]"),
    ("std", [0.4, 0.0, 0.5], "std: expected three finite numbers above 0, found"),
    ("std", GONE, "it has no entry 'std'"),
    ("experiment", None, "expected an object of sections, found None"),
    ("experiment.model", GONE, "it has no entry 'model'"),
    ("experiment.data", [], "data: expected an object, found []"),
    ("experiment.model.backbone", "i3d_r51", "model.backbone: expected "),
    ("experiment.model.backbone", "i3d_r51", "found 'i3d_r51'"),
    ("experiment.model.block", 3, "found 3"),
    ("experiment.model.block_options", ["order"], "model.block_options: expected an object"),
    ("experiment.model.block_options", {"order": "no"}, "order"),
    ("experiment.model.positions", "before:res4.0", "model.positions: expected a list"),
    ("experiment.model.positions", ["before:res9.0"], "res9"),
    ("experiment.model.inter_channels", "8", "model.inter_channels: expected a whole number"),
    ("experiment.model.inter_channels", -8, "-8"),
    ("experiment.model.num_units", 0, "num_units"),
    ("experiment.model.zero_init", "yes", "model.zero_init: expected true or false, found 'yes'"),
    ("experiment.model.layers", 5, "model: unexpected keyword 'layers'"),
    ("experiment.trainer.seed", 0.5, "trainer.seed: expected a whole number, found 0.5"),
]
# Sizes that no network has, and that an exported file's network is not built with again.
OF_ITS_SIZES: list[tuple[str, Any, str]] = [
    ("experiment.model.inter_channels", 10**12, "its network cannot be built"),
    ("experiment.data.crop", 0, "data.crop=0 must be at least 1"),
    ("experiment.data.clip_frames", 2, "data.clip_frames=2"),
    ("experiment.data.frame_stride", 0, "data.frame_stride=0 must be at least 1"),
    ("experiment.data.deadline", -1, "data.deadline=-1 must be above 0"),
]
OF_THE_INPUT: list[tuple[str, Any, str]] = [
    ("input", GONE, "it has no entry 'input'"),
    ("input", "clips", "found 'clips'"),
    ("input.name", "sounds", "input.name: expected 'clips' or 'images' or 'tracklets', found"),
    ("input.dtype", "int8", "input.dtype: expected 'uint8' or 'float32', found 'int8'"),
    ("input.sizes", [4, 32], "input.sizes: expected 3 sizes of 1 or more, found [4, 32]"),
    ("input.smallest", {"frames": 4}, "input.smallest: expected a list, each entry a whole number"),
    (
        "input.smallest",
        GONE,
        "input.smallest: expected a list, each entry a whole number, found no",
    ),
    ("input.free", ["time"], "input.free: expected a list, each entry 'batch' or 'frames'"),
]


def changed(facts: Mapping[str, Any], place: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(dict(facts))
    *above, last = place.split(".")
    inside = values
    for name in above:
        inside = inside[name]
    if value is GONE:
        del inside[last]
    else:
        inside[last] = value
    return values


def refused(action: Callable[[], object], message: str, path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        action()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    checkpoint = str(video_checkpoint(folder / "best.ckpt"))
    publish(find_trained(checkpoint), output=str(folder / "it"), licence="mit", name=None)
    return folder / "it"


def unsealed(config: Path) -> dict[str, Any]:
    """The entries as earlier versions wrote them, whose hashes do not tell of a change."""
    facts = json.loads(config.read_text())
    return {
        name: value for name, value in facts.items() if name not in (CONFIG_DIGEST, WEIGHTS_DIGEST)
    }


@pytest.mark.parametrize(("place", "value", "message"), OF_THE_NETWORK + OF_ITS_SIZES)
def test_a_published_folder(
    published: Path, place: str, value: Any, message: str, tmp_path: Path
) -> None:
    facts = unsealed(published / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(changed(facts, place, value)))
    weights = tmp_path / "model.safetensors"
    weights.symlink_to(published / "model.safetensors")
    refused(lambda: load_trained(weights), message, tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [case for case in OF_THE_NETWORK if "block_options" not in case[0]][:16] + OF_THE_INPUT,
)
def test_an_exported_file(
    published: Path, place: str, value: Any, message: str, tmp_path: Path
) -> None:
    facts = json.loads((published / "config.json").read_text()) | {"input": INPUT}
    text, path = json.dumps(changed(facts, place, value)), tmp_path / "model.onnx"
    refused(lambda: checked_facts(stored_facts(text, path), path, VIDEO), message, path)
    _, given = checked_facts(stored_facts(json.dumps(facts), path), path, VIDEO)
    assert given.facts() == INPUT


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("experiment.model.backbone", "preresnet21", "found 'preresnet21'"),
        ("experiment.data.height", None, "data.height: expected a whole number, found null"),
        ("experiment.data.scales", {}, "data.scales: expected a list, each entry a number"),
    ],
)
def test_a_network_of_pictures(place: str, value: Any, message: str, tmp_path: Path) -> None:
    checkpoint = str(image_checkpoint(tmp_path / "best.ckpt"))
    publish(find_trained(checkpoint), output=str(tmp_path / "it"), licence="mit", name=None)
    config = tmp_path / "it" / "config.json"
    config.write_text(json.dumps(changed(unsealed(config), place, value)))
    weights = tmp_path / "it" / "model.safetensors"
    refused(lambda: load_trained(weights, IMAGE), message, config)
    assert IMAGE.entry in config.read_text()


def test_weights_that_have_no_names(tmp_path: Path) -> None:
    path = video_checkpoint(tmp_path / "best.ckpt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "state_dict": {3: torch.zeros(1)}}, path)
    refused(lambda: load_trained(path), "holds no weights (state_dict)", path)
