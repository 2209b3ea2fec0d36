"""``data.short_tracklets``: the rule of a training, what follows it, and where it is kept."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from reid import Gallery
from reid import load as reid_load
from reid.config import CLIP_BACKBONES, ReidDataConfig, ReidExperiment, ReidModelConfig
from reid.data.loading import SampledDataset, TrackletDataset
from reid.data.tracklet import Tracklet
from reid.data.transforms import evaluation_clips
from reid.models.backbones import BACKBONES
from reid.options import check_options
from reid.pretrained import recipe_experiment
from reid.retrieval.encode import encode, encode_arrays
from reid.retrieval.features import read_features
from reid.task import TrackletTask
from reid.trained import load_trained
from tests.reid.little import options, run, write_tracklet
from tests.reid.networks import SIZE, network
from tests.tiny import metrics, only_run, record
from video_snl.errors import UserError

FRAMES = 4
CLIPS = ReidDataConfig(frames=FRAMES, height=SIZE[0], width=SIZE[1], num_workers=0)


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory: pytest.TempPathFactory) -> list[Tracklet]:
    """Of 1, 3, 4 and 6 frames."""
    root = tmp_path_factory.mktemp("tracklets")
    return [
        Tracklet(tuple(write_tracklet(root / str(n), n, 0, frames=n)), n, 0) for n in (1, 3, 4, 6)
    ]


def ruled(rule: str) -> ReidDataConfig:
    return replace(CLIPS, short_tracklets=rule)  # type: ignore[arg-type]


def pixels(tracklet: Tracklet, wanted: list[int]) -> Tensor:
    """Frames as a clip of the network, (1, 3, T, H, W)."""
    every = SampledDataset([tracklet], CLIPS, len(tracklet.frames)).sample((0, 0), 0)["video"]
    return evaluation_clips(every[wanted][None])


def test_samples_say_which_frames_count(tracklets: list[Tracklet]) -> None:
    labels = {tracklet.person_id: 0 for tracklet in tracklets}
    for rule, counted in (("repeat", [4, 4, 4, 4]), ("mask", [1, 3, 4, 4]), (None, [4] * 4)):
        config = replace(CLIPS, short_tracklets=rule)
        for dataset in (
            TrackletDataset(tracklets, labels, config, 0),
            SampledDataset(tracklets, config),
        ):
            for index, count in enumerate(counted):
                sample = dataset.sample((0, index), index)
                assert sample["mask"].tolist() == [True] * count + [False] * (4 - count)
                assert sample["video"].shape[0] == 4
    more = SampledDataset(tracklets, ruled("mask"), 5).sample((0, 3), 3)
    assert more["mask"].all(), "six frames are enough for five"


@pytest.mark.parametrize("test_frames", [None, 5])
def test_features_follow_the_rule(tracklets: list[Tracklet], test_frames: int | None) -> None:
    net = network(block="snl", head="rnn", zero_init=False)
    # Whole tracklets in chunks of four; or five evenly spaced frames.
    spaced = [0, 1, 2, 3, 5] if test_frames else None
    repeated = {
        1: [[0] * (test_frames or 4)],
        3: [[0, 1, 2, 0, 1] if test_frames else [0, 1, 2, 0]],
        4: [[0, 1, 2, 3, 0] if test_frames else [0, 1, 2, 3]],
        6: [spaced] if spaced else [[0, 1, 2, 3], [2, 3, 4, 5]],
    }
    existing = {1: [[0]], 3: [[0, 1, 2]], 4: [[0, 1, 2, 3]], 6: repeated[6]}
    for rule, wanted in (("repeat", repeated), ("mask", existing)):
        found = encode(net, tracklets, ruled(rule), test_frames=test_frames)
        assert found.num_frames.tolist() == [1, 3, 4, 5 if test_frames else 6]
        with torch.no_grad():
            for row, tracklet in enumerate(tracklets):
                each = [net(pixels(tracklet, c)).features for c in wanted[len(tracklet.frames)]]
                torch.testing.assert_close(
                    found.features[row], torch.cat(each).mean(0), rtol=1e-5, atol=1e-5
                )
        files = [np.stack([pixels_of(path) for path in each.frames]) for each in tracklets]
        arrays = [torch.from_numpy(each) for each in files]
        again = encode_arrays(net, arrays, ruled(rule), test_frames=test_frames)
        torch.testing.assert_close(again, found.features, rtol=1e-5, atol=1e-5)
    both = [encode(net, tracklets, ruled(rule)).features for rule in ("repeat", "mask")]
    assert not torch.allclose(both[0][1], both[1][1], rtol=1e-4), "three frames in a clip of four"


def pixels_of(path: str) -> np.ndarray:
    return np.array(Image.open(path))


def test_frames_that_cannot_be_read_leave_a_shorter_tracklet(tmp_path: Path) -> None:
    names = write_tracklet(tmp_path / "a", 1, 0, frames=5)
    for lost in names[1], names[4]:
        Path(lost).write_bytes(b"no image")
    net = network(head="normalised_mean")
    whole, left = (
        encode(net, [Tracklet(tuple(kept), 1, 0)], ruled("mask")).features
        for kept in (names, [names[0], names[2], names[3]])
    )
    assert torch.equal(whole, left)


def test_published_networks_weigh_every_frame_once(tracklets: list[Tracklet]) -> None:
    experiment = recipe_experiment("osnet_x0_25_msmt17")
    assert experiment.data.short_tracklets == "mask"
    net = network(backbone="osnet_x0_25_msmt17", head=experiment.model.head, neck=False)
    data = replace(CLIPS, frames=1, short_tracklets=experiment.data.short_tracklets)
    short = tracklets[:3]
    evenly = encode(net, short, data, test_frames=5).features
    torch.testing.assert_close(evenly, encode(net, short, data).features, rtol=1e-5, atol=1e-6)


def test_new_trainings_mask_where_the_network_can() -> None:
    assert set(CLIP_BACKBONES) < set(BACKBONES)
    for model, rule in (
        (ReidModelConfig(), "mask"),
        (ReidModelConfig(block="ge"), "mask"),
        (ReidModelConfig(block="ge", block_options={"extent": 2}), "repeat"),
        *((ReidModelConfig(backbone=name), "repeat") for name in CLIP_BACKBONES),
    ):
        assert ReidExperiment(model=model).data.short_tracklets == rule
        asked = ReidExperiment(data=ReidDataConfig(short_tracklets="repeat"), model=model)
        assert asked.data.short_tracklets == "repeat"


def test_stored_values_of_before_repeat() -> None:
    values = ReidExperiment().to_dict()
    assert values["data"]["short_tracklets"] == "mask"
    assert ReidExperiment.from_dict(values).data.short_tracklets == "mask"
    del values["data"]["short_tracklets"]
    assert ReidExperiment.from_dict(copy.deepcopy(values)).data.short_tracklets == "repeat"
    with pytest.raises(TypeError, match=r"data\.short_tracklets: expected 'repeat' or 'mask'"):
        values["data"]["short_tracklets"] = "skip"
        ReidExperiment.from_dict(values)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ReidModelConfig(backbone="resnet50_3d"), "convolutions of resnet50_3d over time"),
        (ReidModelConfig(block="ge", block_options={"extent": 2}), "block ge with an extent"),
    ],
)
def test_a_network_that_cannot_is_refused(model: ReidModelConfig, reason: str) -> None:
    experiment = ReidExperiment(data=ReidDataConfig(short_tracklets="mask"), model=model)
    with pytest.raises(UserError, match=f"{reason}.*set --data.short_tracklets repeat"):
        check_options(experiment)


def test_the_refusal_is_one_line_before_anything_is_made(dataset: Path, tmp_path: Path) -> None:
    words = options(dataset, tmp_path / "runs", model__backbone="i3d_small")
    done = run("train", *words, "--data.short_tracklets", "mask")
    assert done.returncode == 2 and "data.short_tracklets=mask is not possible" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def masked(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose tracklets, of three frames, are shorter than its clips."""
    output = tmp_path_factory.mktemp("masked")
    more: dict[str, Any] = {"model__block": "snl", "model__zero_init": "false"}
    done = run("train", *options(dataset, output, data__frames=FRAMES, **more))
    assert done.returncode == 0, done.stderr
    return only_run(output)


def without_the_rule(folder: Path, to: Path) -> Path:
    """The checkpoint of a run as versions before the rule wrote it."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)
    del content["reid"]["experiment"]["data"]["short_tracklets"]
    torch.save(content, to)
    return to


def test_training_keeps_the_rule_in_its_checkpoint(masked: Path, tmp_path: Path) -> None:
    trained = load_trained(masked / "checkpoints" / "last.ckpt")
    assert trained.experiment.data.short_tracklets == "mask"
    assert record(masked)["config"]["data"]["short_tracklets"] == "mask"
    written = yaml.safe_load((masked / "config.yaml").read_text(encoding="utf-8"))
    assert written["data"]["short_tracklets"] == "mask"
    assert all(np.isfinite(list(row.values())).all() for row in metrics(masked))


def test_an_old_checkpoint_has_the_features_it_had(
    masked: Path, tracklets: list[Tracklet], tmp_path: Path
) -> None:
    old = load_trained(without_the_rule(masked, tmp_path / "old.ckpt"))
    new = load_trained(masked / "checkpoints" / "last.ckpt")
    data = old.experiment.data
    assert data.short_tracklets == "repeat"
    video = SampledDataset(tracklets[1:2], data).sample((0, 0), 0)["video"]
    with torch.no_grad():
        before = old.model(evaluation_clips(video[None]).contiguous()).features
    found = encode(old.model, tracklets[1:2], data, channels_last=False).features
    assert torch.equal(found, before)
    assert not torch.equal(encode(new.model, tracklets[1:2], new.experiment.data).features, before)


@pytest.mark.parametrize("rule", ["mask", "repeat"])
def test_resuming_keeps_the_rule(dataset: Path, tmp_path: Path, rule: str) -> None:
    """Also that of a run of before, whose record has none."""
    words = options(dataset, tmp_path, data__frames=FRAMES, optimizer__epochs=1)
    assert run("train", *words, "--data.short_tracklets", rule).returncode == 0
    folder = only_run(tmp_path)
    if rule == "repeat":
        path = folder / "run.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        del values["config"]["data"]["short_tracklets"]
        path.write_text(json.dumps(values), encoding="utf-8")
        without_the_rule(folder, folder / "checkpoints" / "last.ckpt")
    done = run("train", "--resume", str(folder), "--optimizer.epochs", "2")
    assert done.returncode == 0, done.stderr
    last = load_trained(folder / "checkpoints" / "last.ckpt")
    assert (last.finished_epochs, last.experiment.data.short_tracklets) == (2, rule)


def test_a_file_of_before_keeps_repeating(dataset: Path, tmp_path: Path) -> None:
    def rule_of(*words: str) -> str:
        done = run("train", *words, "--print_config")
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["data"]["short_tracklets"])

    old, model = tmp_path / "old.yaml", tmp_path / "model.yaml"
    old.write_text("data: {frames: 6}\n")
    model.write_text("model: {block: nl}\n")
    assert rule_of("--config", str(old)) == "repeat"
    assert rule_of("--config", str(old), "--data.short_tracklets", "mask") == "mask"
    assert rule_of("--config", "reid/mars_r50") == "mask"


def test_the_network_gets_the_mask_in_training_and_validation(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[list[int]]] = {"training_step": [], "validation_step": []}
    for name, counted in seen.items():
        step = getattr(TrackletTask, name)

        def noted(
            task: TrackletTask,
            batch: dict[str, Tensor],
            batch_idx: int,
            step: Any = step,
            counted: list[list[int]] = counted,
        ) -> Any:
            result = step(task, batch, batch_idx)
            mask = task.model.frames.mask
            counted.append([] if mask is None else mask.sum(1).tolist())
            return result

        monkeypatch.setattr(TrackletTask, name, noted)
    words = options(dataset, tmp_path, data__frames=FRAMES, optimizer__epochs=1)
    assert run("train", *words).returncode == 0
    assert all(counted == [3] * 4 for counted in seen["training_step"]) and seen["training_step"]
    # Queries of three frames; a gallery of five and, of a distractor, three.
    assert sorted(sum(seen["validation_step"], [])) == [3] * 4 + [4] * 3


def test_features_and_maps_follow_the_checkpoint(
    masked: Path, dataset: Path, tmp_path: Path
) -> None:
    """extract, load, Gallery and explain: of the same frames, the same features."""
    path = masked / "checkpoints" / "last.ckpt"
    cpu = ("--checkpoint", str(path), "--accelerator", "cpu")
    out = tmp_path / "f.parquet"
    assert run("extract", str(dataset / "query"), *cpu, "-o", str(out)).returncode == 0
    table, trained = read_features(out), load_trained(path)
    data = trained.experiment.data
    for name, feature in zip(table.names, table.features, strict=True):
        frames = tuple(sorted(map(str, Path(name).iterdir())))
        video = SampledDataset([Tracklet(frames, 1, 0)], data, 3).sample((0, 0), 0)["video"]
        with torch.no_grad():
            alone = trained.model(evaluation_clips(video[None])).features[0]
        np.testing.assert_allclose(feature, alone, rtol=1e-4, atol=1e-5)
    extractor, gallery = reid_load(path, device="cpu"), Gallery.read(out)
    found = gallery.search(extractor.extract(dataset / "query", num_workers=0), top=1)
    assert [matches[0].name for matches in found] == table.names
    words = ["explain", str(dataset / "query" / "101" / "c0" / "t0"), "-o", str(tmp_path / "e")]
    assert run(*words, *cpu).returncode == 0
    [shown] = json.loads((tmp_path / "e" / "explanation.json").read_text())["networks"]
    assert [block["full_grid"][0] for block in shown["blocks"]] == [3, 3]
    assert "It has no more; a clip of the training has 4." in shown["notes"]


def test_evaluate_follows_the_checkpoint_unless_told(masked: Path, tmp_path: Path) -> None:
    path = masked / "checkpoints" / "last.ckpt"
    measured = ["evaluate", "--checkpoint", str(path), "--trainer.accelerator", "cpu", "--json"]
    done = run(*measured, "--report", str(tmp_path / "mask"))
    assert json.loads(done.stdout)["settings"]["short_tracklets"] == "mask", done.stderr
    done = run(*measured, "--report", str(tmp_path / "r"), "--data.short_tracklets", "repeat")
    assert json.loads(done.stdout)["settings"]["short_tracklets"] == "repeat"
    assert "was trained with data.short_tracklets=mask, and is measured with repeat" in done.stderr
    old = without_the_rule(masked, tmp_path / "old.ckpt")
    measured[2] = str(old)
    done = run(*measured, "--report", str(tmp_path / "old"))
    assert json.loads(done.stdout)["settings"]["short_tracklets"] == "repeat"
    assert "was trained with" not in done.stderr
