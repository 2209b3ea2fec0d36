"""``reid export``: frames of tracklets in, unit features out, in onnxruntime and torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from reid.config import ReidDataConfig, ReidModelConfig
from reid.data.loading import frames_that_count
from reid.data.transforms import evaluation_clips
from reid.models.network import TrackletNet, build_network
from reid.retrieval.deployed import TrackletFeatures
from reid.retrieval.features import read_features
from reid.task_spec import REID
from reid.trained import pretrained
from tests.export.checkpoints import video_checkpoint
from tests.reid.little import HEIGHT, WIDTH, run
from tests.reid.test_reid_weights import torchreid_checkpoint, torchreid_model
from tests.test_checkpoints import save
from tests.tiny import environment, run_here
from video_snl.errors import UserError
from video_snl.export import command as recording
from video_snl.runs.published import facts_of, stored_facts
from video_snl.runs.validation import checked_experiment

UNTIMED = ("--runs", "0")


def pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (*shape, HEIGHT, WIDTH, 3), generator=generator).byte()


def network(**options: object) -> TrackletNet:
    config = ReidModelConfig(**{"block": "none", "zero_init": False, **options})  # type: ignore
    return build_network(config, 3, frames=4, size=(HEIGHT, WIDTH))[0].eval()


def by_hand(model: TrackletNet, frames: Tensor, size: int, rule: str) -> Tensor:
    """The mean over chunks of one tracklet, each through the network by itself."""
    length = len(frames)
    starts = [*range(0, length - size, size), max(0, length - size)]
    found = []
    for start in starts:
        chunk = frames[[(start + step) % length for step in range(size)]]
        mask = frames_that_count(length, size, rule)  # type: ignore[arg-type]
        found.append(model(evaluation_clips(chunk[None]), mask[None]).features[0])
    return F.normalize(torch.stack(found).mean(0), dim=0)


@pytest.mark.parametrize("rule", ["mask", "repeat"])
@pytest.mark.parametrize("head", ["mean", "attention", "rnn", "nonlocal3d"])
@torch.no_grad()
def test_the_chunks_of_ragged_tracklets(head: str, rule: str) -> None:
    block = "snl" if head == "mean" else "none"
    model = network(head=head, block=block, backbone="osnet_x0_25")
    config = ReidDataConfig(frames=4, height=HEIGHT, width=WIDTH, short_tracklets=rule)  # type: ignore
    tracklets, lengths = pixels(6, 9), torch.tensor([9, 8, 5, 4, 3, 1])
    found = TrackletFeatures(model, config)(tracklets, lengths)
    expected = [
        by_hand(model, each[:n], 4, rule) for each, n in zip(tracklets, lengths, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-6)
    # What stands after the last frame, and a longer batch, change nothing.
    longer = F.pad(tracklets, (0, 0, 0, 0, 0, 0, 0, 4), value=7)
    for row, n in zip(longer, lengths, strict=True):
        row[n:] = 7
    again = TrackletFeatures(model, config)(longer, lengths)
    torch.testing.assert_close(again, found, rtol=0, atol=1e-6)


@torch.no_grad()
def test_lengths_that_are_none() -> None:
    config = ReidDataConfig(frames=4, height=HEIGHT, width=WIDTH, short_tracklets="mask")
    found = TrackletFeatures(network(), config)(pixels(4, 5), torch.tensor([5, 0, -1, 6]))
    assert found[0].isfinite().all() and found[1:].isnan().all()


def _extracted(trained: Path, folder: Path, target: Path) -> dict[str, np.ndarray]:
    words = ["--checkpoint", str(trained), "-o", str(target), "--accelerator", "cpu"]
    done = run("extract", str(folder), *words)
    assert done.returncode == 0, done.stderr
    table = read_features(target)
    return dict(zip(table.names, table.features, strict=True))


def _batch(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Frames of folders as one array, with what is no frame after the last."""
    people = [
        np.stack([np.asarray(Image.open(path)) for path in sorted(Path(name).glob("*.png"))])
        for name in names
    ]
    lengths = np.array([len(frames) for frames in people])
    batch = np.full((len(people), lengths.max(), HEIGHT, WIDTH, 3), 200, np.uint8)
    for row, frames in zip(batch, people, strict=True):
        row[: len(frames)] = frames
    return batch, lengths


@pytest.fixture(scope="module")
def exported(with_block: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "people.onnx"
    words = ["--checkpoint", str(with_block), "-o", str(path), "--json", *UNTIMED]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="# The axis name")  # two inputs have one batch
        done = run("export", *words, "--input", str(dataset / "gallery" / "101" / "c1" / "t0"))
    assert done.returncode == 0, done.stderr
    assert f"tracklets (batch, frames, height={HEIGHT}, width={WIDTH}, channels=3)" in done.stdout
    assert "uint8, decoded; lengths (batch), int64; output: features" in done.stdout
    return path


@pytest.mark.slow
def test_from_files_to_the_features_of_extract(
    exported: Path, with_block: Path, dataset: Path, tmp_path: Path
) -> None:
    report = json.loads(exported.with_name("people.onnx.json").read_text())
    assert [each["input"] for each in report["differences"]] == ["random"] * 3 + ["given"]
    assert all(each["difference"] <= 1e-4 for each in report["differences"])
    extracted = _extracted(with_block, dataset / "gallery", tmp_path / "feats.parquet")
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    names = sorted(extracted)
    for part in (names, names[:1], names[1:4]):  # of 3 and of 5 frames
        batch, lengths = _batch(part)
        (found,) = session.run(["features"], {"tracklets": batch, "lengths": lengths})
        expected = np.stack([extracted[name] / np.linalg.norm(extracted[name]) for name in part])
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    (found,) = session.run(None, {"tracklets": batch, "lengths": np.array([0, 9, 1])})
    assert np.isnan(found[:2]).all() and np.isfinite(found[2]).all()


@pytest.mark.slow
def test_a_pt2_file_in_a_process_without_the_project(
    with_block: Path, dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "people.pt2"
    done = run("export", "--checkpoint", str(with_block), "-o", str(path), *UNTIMED)
    assert done.returncode == 0, done.stderr
    extracted = _extracted(with_block, dataset / "gallery", tmp_path / "feats.parquet")
    names = sorted(extracted)
    batch, lengths = _batch(names)
    np.savez(tmp_path / "given.npz", batch=batch, lengths=lengths)
    code = (
        "import sys, numpy as np, torch\n"
        "given = np.load('given.npz')\n"
        "network = torch.export.load('people.pt2').module(check_guards=False)\n"
        "with torch.no_grad():\n"
        "    found = network(*map(torch.from_numpy, (given['batch'], given['lengths'])))\n"
        "np.save('found.npy', found.numpy())\n"
        "assert not {'reid', 'video_snl'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-I", "-c", code]
    subprocess.run(words, cwd=tmp_path, check=True, env=environment())
    expected = np.stack([extracted[name] / np.linalg.norm(extracted[name]) for name in names])
    assert np.abs(np.load(tmp_path / "found.npy") - expected).max() < 1e-5


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(
    with_block: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = recording.exported_graph

    def another(network: nn.Module, *rest: object) -> object:
        network.model.neck.weight.data[0] *= 3  # type: ignore[union-attr, operator]
        graph = record(network, *rest)  # type: ignore[arg-type]
        network.model.neck.weight.data[0] /= 3  # type: ignore[union-attr, operator]
        return graph

    monkeypatch.setattr(recording, "exported_graph", another)
    words = ["--checkpoint", str(with_block), "-o", str(tmp_path / "people.pt2"), *UNTIMED]
    done = run("export", *words)
    assert done.returncode == 2 and "differs from the checkpoint's by" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "model.bin"], "model.bin: expected a file that ends in .onnx or .pt2"),
        (["--runs", "-1"], "--runs -1: give 0 or more"),
        (["--input", "none"], "--input none: no such file"),
    ],
)
def test_bad_options(
    words: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("export", "--checkpoint", str(trained), *words)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert message in line and list(tmp_path.iterdir()) == []


def test_without_the_packages_of_the_extra(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_snl.utils import extras

    there = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "onnx" and there(name))
    done = run("export", "--checkpoint", str(trained), "-o", str(tmp_path / "people.onnx"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "onnx" in line and "video-snl[export]" in line


def test_a_network_of_videos_goes_to_the_other_command(tmp_path: Path) -> None:
    checkpoint = video_checkpoint(tmp_path / "best.ckpt")
    done = run("export", "--checkpoint", str(checkpoint), "-o", str(tmp_path / "people.onnx"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"such as video-snl export --checkpoint {checkpoint}" in line
    assert list(tmp_path.iterdir()) == [checkpoint]


PUBLISHED = "osnet_x0_25_msmt17"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file as torchreid publishes them."""
    return save(
        torchreid_checkpoint(torchreid_model(), ""), tmp_path_factory.mktemp("weights"), "w"
    )


def test_a_file_says_what_a_published_network_is(weights: str) -> None:
    network = pretrained(PUBLISHED, weights)
    text = json.dumps(facts_of(network.stored, REID))
    content = stored_facts(text, Path("people.onnx"))
    assert checked_experiment(content, Path("people.onnx"), REID) == network.experiment
    assert content["reid"]["pretrained"] == PUBLISHED and content["epoch"] == -1
    del content["reid"]["pretrained"]  # of our own, the identities have to be there
    with pytest.raises(UserError, match="people: expected at least one entry, found none"):
        checked_experiment(content, Path("people.onnx"), REID)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pretrained", "osnet_x9"], "'osnet_x9': no Re-ID network"),
        (["--pretrained", PUBLISHED, "--weights", "none.pth"], "none.pth is not there"),
        (["--pretrained", PUBLISHED, "--checkpoint", "a"], "give one of the two"),
        (["--weights", "w.pth"], "--pretrained NAME"),
    ],
)
def test_bad_published_networks(words: list[str], message: str, tmp_path: Path) -> None:
    done = run("export", *words, "-o", str(tmp_path / "people.onnx"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert message in line and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_published_network_gives_the_features_of_extract(
    weights: str, dataset: Path, tmp_path: Path
) -> None:
    network = ("--pretrained", PUBLISHED, "--weights", weights)
    path = tmp_path / "people.onnx"
    done = run("export", *network, "-o", str(path), *UNTIMED)
    assert done.returncode == 0, done.stderr
    words = (str(dataset / "gallery"), "-o", str(tmp_path / "feats.parquet"))
    assert run("extract", *words, *network, "--accelerator", "cpu").returncode == 0
    table = read_features(tmp_path / "feats.parquet")
    people = [
        np.stack([np.asarray(_as_published(p)) for p in sorted(Path(name).glob("*.png"))])
        for name in table.names
    ]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for frames, feature in zip(people, table.features, strict=True):
        given = {"tracklets": frames[None], "lengths": np.array([len(frames)])}
        (found,) = session.run(["features"], given)
        assert np.abs(found[0] - feature / np.linalg.norm(feature)).max() < 1e-5


def _as_published(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB").resize((128, 256), Image.Resampling.BILINEAR)


def test_predict_says_what_a_file_of_tracklets_is(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(b"no video")
    done = run_here("predict", "--model", str(exported), str(tmp_path / "a.avi"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert str(exported) in line and "reid" in line
