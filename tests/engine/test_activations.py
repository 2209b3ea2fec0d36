"""Training on kept activations: it is the training it stands for, with its frozen part left out."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import metrics, only_run, run_here, tiny_options
from tests.videos import write_ucf101
from video_snl.blocks.insertion import insert_blocks
from video_snl.cli.main import main
from video_snl.config.backbones import VIDEO_BACKBONES
from video_snl.config.video import OptimizerConfig
from video_snl.errors import UserError
from video_snl.models.split import split_frozen
from video_snl.tasks.optimization import freeze, keep_frozen_layers_in_eval

FROZEN = "[stem, res2, res3]"


def network(
    name: str, positions: Sequence[str], frozen: Sequence[str], dropout: float = 0.0
) -> nn.Module:
    """A network in training mode, with a block that does something and frozen stages."""
    torch.manual_seed(0)
    model = VIDEO_BACKBONES[name].build(3, dropout)
    if positions:
        insert_blocks(model, "snl", positions, zero_init=False)
    options = OptimizerConfig(frozen_stages=list(frozen))
    freeze(model, options)
    model.train()
    keep_frozen_layers_in_eval(model, options)
    return model


@pytest.mark.parametrize(
    ("name", "positions", "frozen", "parameters"),
    [
        ("i3d_small", [], ["stem", "res2"], 2),
        ("i3d_small", ["before:res4.-1"], ["stem", "res2", "res3", "res4"], 4),
        ("i3d_small", ["after:res4.0"], ["stem", "res2", "res3", "res4"], 4),
        ("i3d_small", ["before:res2.0"], ["stem", "res2"], 1),
        ("x3d_xs", ["before:res4.-1"], ["stem", "res2", "res3", "res4"], 19),
        ("x3d_xs", ["after:res4.9", "before:res3.2"], ["stem", "res2", "res3", "res4"], 6),
    ],
)
def test_the_parts_are_the_network(
    name: str, positions: list[str], frozen: list[str], parameters: int
) -> None:
    model = network(name, positions, frozen)
    first, rest = split_frozen(model)
    assert len(first) == parameters
    assert not any(p.requires_grad for p in first.parameters())
    together = [*first.parameters(), *rest.parameters()]
    assert len(together) == len({id(p) for p in together})
    assert {id(p) for p in together} == {id(p) for p in model.parameters()}
    clip = torch.rand(2, 3, 4, 64, 64)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    whole = model(clip)
    model.load_state_dict(state)  # the running statistics of what trains, too
    assert torch.equal(rest(first(clip)), whole)


def test_what_cannot_be_split() -> None:
    with pytest.raises(UserError, match="first layers train: freeze them"):
        split_frozen(network("i3d_small", [], ["res2"]))
    with pytest.raises(UserError, match="stages follow each other"):
        split_frozen(network("r3d_18", [], ["stem"]))
    model = network("i3d_small", [], ["stem", "res2"])
    model.blocks[1].train()  # its norms would follow the batches
    assert len(split_frozen(model)[0]) == 1


# ---- runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of just one clip."""
    return write_ucf101(tmp_path_factory.mktemp("data") / "ucf", frames=4, groups=range(1, 10))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDEO_SNL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "video-snl" / "activations"


def trained(videos: Path, output: Path, **options: object) -> Path:
    """A run of two epochs in which nothing of the clips is random."""
    chosen = {
        "data__flip": "false",
        "optimizer__epochs": 2,
        "optimizer__batch_size": 2,  # uneven in its classes, so that the loss tells steps apart
        "optimizer__learning_rate": 0.3,
        "optimizer__frozen_stages": FROZEN,
        "optimizer__cached_versions": 1,
    } | options
    done = run_here("train", *tiny_options(videos, output, **chosen))
    assert done.returncode == 0, done.stderr
    return only_run(output)


def kept(cache: Path) -> list[Path]:
    """The folders of activations."""
    return sorted(cache.iterdir())


def put(folder: Path, name: str, values: np.ndarray) -> None:
    """Put other values in the place of kept ones, as if they were those that were computed."""
    np.save(folder / f"{name}.npy", values)
    facts = json.loads((folder / f"{name}.json").read_text())
    facts["crc32"] = zlib.crc32((folder / f"{name}.npy").read_bytes())
    (folder / f"{name}.json").write_text(json.dumps(facts))


def test_damaged_files_are_computed_anew(videos: Path, tmp_path: Path, cache: Path) -> None:
    first = trained(videos, tmp_path / "first", optimizer__epochs=1)
    [folder] = kept(cache)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    array = folder / "train-0.npy"
    left = folder / ".train-0.0123abcd.partial.npy"
    for number, damage in enumerate(
        (
            lambda: array.write_bytes(whole[array][:1000]),
            lambda: array.write_bytes(b""),
            lambda: array.write_bytes(whole[array][:-1] + b"!"),
            lambda: (folder / "test.json").write_text("[1]"),
            lambda: (folder / "train-0.json").write_text("{"),
            lambda: array.write_bytes((folder / "test.npy").read_bytes()),
            lambda: left.touch() or array.unlink(),
        )
    ):
        damage()
        again = trained(videos, tmp_path / str(number), optimizer__epochs=1)
        assert metrics(again)[0]["train/loss"] == metrics(first)[0]["train/loss"]
        assert {path: path.read_bytes() for path in folder.iterdir()} == whole


def test_the_training_is_the_one_it_stands_for(videos: Path, tmp_path: Path, cache: Path) -> None:
    plain = trained(videos, tmp_path / "plain", optimizer__cached_versions=0)
    assert not cache.exists()
    run = trained(videos, tmp_path / "kept")
    assert len(metrics(run)) == len(metrics(plain)) == 2
    for found, expected in zip(metrics(run), metrics(plain), strict=True):
        for name in ("train/loss", "val/loss"):  # half precision in between
            assert found[name] == pytest.approx(expected[name], rel=1e-4)
    [folder] = kept(cache)
    array = np.load(folder / "train-0.npy")
    assert array.dtype == np.float16 and array.shape == (6, 128, 4, 4, 4)
    assert np.load(folder / "test.npy").shape == (21, 128, 4, 4, 4)
    assert sorted(os.listdir(folder)) == ["test.json", "test.npy", "train-0.json", "train-0.npy"]
    # The checkpoint is that of any other run.
    done = run_here("evaluate", "--checkpoint", str(run), "--clips", "1", "--crops", "1")
    assert done.returncode == 0, done.stderr


def test_training_and_validation_start_from_what_is_kept(
    videos: Path, tmp_path: Path, cache: Path
) -> None:
    before = trained(videos, tmp_path / "before")
    [folder] = kept(cache)
    for name in ("train-0", "test"):
        shape = np.load(folder / f"{name}.npy").shape
        noise = np.random.default_rng(0).normal(0, 10, shape).astype(np.float16)
        noise *= np.arange(shape[0], dtype=np.float16)[:, None, None, None, None]
        put(folder, name, noise)
    after = trained(videos, tmp_path / "after")
    for name in ("train/loss", "val/loss"):
        assert metrics(after)[-1][name] != pytest.approx(metrics(before)[-1][name], rel=1e-3)


def test_evaluation_starts_from_what_is_kept(
    videos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(videos, tmp_path / "run")
    words = ["evaluate", "--checkpoint", str(run), "--clips", "2", "--crops", "1", "--strips", "0"]

    def scores(name: str, *more: str) -> np.ndarray:
        done = run_here(*words, "--output", str(tmp_path / name), *more)
        assert done.returncode == 0, done.stderr
        rows = csv.DictReader((tmp_path / name / "predictions.csv").open(encoding="utf-8"))
        return np.array([[float(row["clip score"]), float(row["video score"])] for row in rows])

    plain, kept_once = scores("plain"), scores("first", "--cached")
    np.testing.assert_allclose(kept_once, plain, atol=2e-3)  # half precision in between
    [folder] = kept(cache)
    array = np.load(folder / "test-2.npy")
    assert array.shape == (21, 3, 128, 4, 4, 4)  # the centre clip, then both others
    np.testing.assert_array_equal(scores("second", "--cached"), kept_once)
    put(folder, "test-2", 100 * array[::-1])
    assert np.abs(scores("third", "--cached") - plain).max() > 0.01  # it is what is read

    done = run_here(*words[:-4], "--cached", "--output", str(tmp_path / "three"))
    assert done.returncode == 2 and "give --crops 1, not 3" in done.stderr
    other = trained(videos, tmp_path / "whole", optimizer__cached_versions=0)
    words[2] = str(other)
    done = run_here(*words, "--cached")
    assert done.returncode == 2 and "did not train on kept activations" in done.stderr


def test_runs_share_what_does_not_differ(videos: Path, tmp_path: Path, cache: Path) -> None:
    trained(videos, tmp_path / "a", optimizer__epochs=1)
    [folder] = kept(cache)
    before = (folder / "train-0.npy").stat()
    trained(
        videos, tmp_path / "b", optimizer__epochs=1, optimizer__cached_versions=2,
        model__block="nl", optimizer__learning_rate=0.1, data__deadline=30,
    )  # fmt: skip
    assert kept(cache) == [folder] and (folder / "train-0.npy").stat() == before
    assert (folder / "train-1.npy").is_file()
    trained(videos, tmp_path / "c", optimizer__epochs=1, trainer__seed=7)  # other frozen weights
    assert len(kept(cache)) == 2
    trained(videos, tmp_path / "d", optimizer__epochs=1, data__statistics="imagenet")
    assert len(kept(cache)) == 3
    video = next(videos.rglob("v_Bow_g08_c01.avi"))
    os.utime(video, ns=(1, 1))
    trained(videos, tmp_path / "e", optimizer__epochs=1)
    assert len(kept(cache)) == 4


def test_versions_differ_and_do_not_depend_on_the_seed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = write_ucf101(tmp_path / "ucf", frames=12, groups=range(1, 10))
    trained(longer, tmp_path / "a", optimizer__cached_versions=2, data__flip="true")
    [folder] = kept(cache)
    first, second = (np.load(folder / f"train-{v}.npy") for v in (0, 1))
    assert not np.array_equal(first, second)
    # Another seed from the same weights computes nothing.
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    weights = tmp_path / "a" / os.listdir(tmp_path / "a")[0] / "checkpoints" / "last.ckpt"
    for seed in (1, 2):
        trained(
            longer, tmp_path / f"seed{seed}", optimizer__cached_versions=2, data__flip="true",
            trainer__seed=seed, model__weights=weights,
        )  # fmt: skip
    assert kept(cache) == [folder]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_unreadable_videos(tmp_path: Path, cache: Path) -> None:
    videos = write_ucf101(tmp_path / "ucf", frames=4, groups=range(1, 10))
    for name in ("v_Bow_g01_c01", "v_Clap_g08_c01"):  # a test and a training video
        next(videos.rglob(f"{name}.avi")).write_bytes(b"no video")
    run = trained(videos, tmp_path / "a", optimizer__epochs=1)
    lines = (run / "quarantine.jsonl").read_text().splitlines()
    assert {Path(json.loads(line)["path"]).stem for line in lines} == {
        "v_Bow_g01_c01",
        "v_Clap_g08_c01",
    }
    [folder] = kept(cache)
    facts = {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("test", "train-0")
    }
    assert len(facts["test"]["unreadable"]) == 1 and facts["test"]["stood_for"] == []
    assert facts["train-0"]["unreadable"] == [] and len(facts["train-0"]["stood_for"]) == 1
    [row] = metrics(run)
    assert row["val/top1"] <= 20 / 21
    # They are as they were: nothing is computed again, and the test video is still wrong.
    before = {name: (folder / f"{name}.npy").stat().st_mtime_ns for name in facts}
    again = trained(videos, tmp_path / "b", optimizer__epochs=1)
    assert metrics(again) == metrics(run)
    assert all((folder / f"{name}.npy").stat().st_mtime_ns == at for name, at in before.items())
    [line] = (again / "quarantine.jsonl").read_text().splitlines()
    assert "v_Bow_g01_c01" in line
    # They are tried again with a wider limit, once, and are no more than a run allows.
    words = tiny_options(
        videos,
        tmp_path / "few",
        data__max_failures=0,
        optimizer__frozen_stages=FROZEN,
        optimizer__cached_versions=1,
        data__flip="false",
    )
    done = run_here("train", *words)
    assert done.returncode == 2 and "more than --data.max_failures 0.0 allows" in done.stderr
    trained(videos, tmp_path / "longer", optimizer__epochs=1, data__deadline=30.5)
    wider = {name: (folder / f"{name}.npy").stat().st_mtime_ns for name in facts}
    assert all(wider[name] > at for name, at in before.items())
    trained(videos, tmp_path / "shorter", optimizer__epochs=1, data__deadline=30)
    assert all((folder / f"{name}.npy").stat().st_mtime_ns == at for name, at in wider.items())
    # A mended one is another state of the list.
    shutil.copy(next(videos.rglob("v_Bow_g02_c01.avi")), next(videos.rglob("v_Bow_g01_c01.avi")))
    mended = trained(videos, tmp_path / "c", optimizer__epochs=1)
    assert len(kept(cache)) == 2 and metrics(mended)[0]["val/top1"] >= row["val/top1"]


def test_it_goes_on_where_it_was_stopped(
    videos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = {"optimizer__schedule": "step", "optimizer__warmup_epochs": 0}
    whole = trained(videos, tmp_path / "whole", **constant)
    output = tmp_path / "resumed"
    first = trained(videos, output, optimizer__epochs=1, **constant)
    done = run_here("train", "--resume", str(first), "--optimizer.epochs", "2")
    assert done.returncode == 0, done.stderr
    assert len(metrics(first)) == 2
    for found, expected in zip(metrics(first), metrics(whole), strict=True):
        # The same frozen weights, batches and activations; the schedule of the first epoch was
        # that of one epoch, which a constant rate hides.
        assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-6)
    assert "kept activations" in done.stderr


def test_a_full_disk_is_one_line(
    videos: Path,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    chosen = {"optimizer__frozen_stages": FROZEN, "optimizer__cached_versions": 1}
    assert main(["train", *tiny_options(videos, tmp_path / "runs", **chosen)]) != 0
    said = capsys.readouterr().err
    assert "No space left" in said and "Traceback" not in said
    [folder] = kept(cache)
    assert not list(folder.glob("*.npy*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer__mixup": 0.2}, "mixup and CutMix would mix before"),
        ({"optimizer__frozen_stages": "[]"}, "its first layers train: freeze them"),
        ({"optimizer__cached_versions": -1}, "optimizer.cached_versions"),
        (
            {"model__backbone": "r3d_18", "optimizer__frozen_stages": "[stem]"},
            "needs a network whose stages follow each other",
        ),
    ],
)
def test_what_does_not_go_together(
    videos: Path, tmp_path: Path, cache: Path, options: dict[str, object], message: str
) -> None:
    chosen = {"optimizer__frozen_stages": FROZEN, "optimizer__cached_versions": 1} | options
    done = run_here("train", *tiny_options(videos, tmp_path / "runs", **chosen))
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not cache.exists()
    assert not (tmp_path / "runs").exists()
