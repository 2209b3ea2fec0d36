"""Networks with published weights: used without training, trained on, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reid.config import ReidModelConfig
from reid.models.network import build_network
from reid.pretrained import PRETRAINED, recipe_experiment
from reid.retrieval.features import FeatureTable, read_features
from reid.trained import load_trained, pretrained
from tests.reid.little import options, run
from tests.reid.test_reid_weights import torchreid_checkpoint, torchreid_model
from tests.reid_trees import real_file
from tests.test_checkpoints import save
from tests.test_published_weights import hub_cache
from tests.tiny import only_run
from video_snl.errors import UserError

__all__ = ["hub_cache"]

NAME = "osnet_x0_25_msmt17"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchreid's own network, with the 4,101 identities of MSMT17."""
    return torchreid_model(identities=4101)


@pytest.fixture(scope="module")
def weights(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of the published format."""
    folder = tmp_path_factory.mktemp("weights")
    return save(torchreid_checkpoint(theirs, "module."), folder, "osnet.pth.tar-180")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracklets: images smaller and larger than 256 x 128, one as a JPEG of 1200 x 700."""
    root = tmp_path_factory.mktemp("images")
    sizes = {"a": [(128, 64), (90, 50), (256, 128)], "b": [(1200, 700), (300, 100)]}
    for folder, of_frames in sizes.items():
        (root / folder).mkdir()
        for number, size in enumerate(of_frames):
            random = np.random.default_rng([number, *size])
            small = Image.fromarray(random.integers(0, 256, (24, 12, 3), np.uint8))
            image = small.resize(size[::-1], Image.Resampling.BICUBIC)
            image.save(root / folder / f"{number}.{'png' if number else 'jpg'}")
    return root


def frame(path: Path) -> Tensor:
    """An image as torchreid sees it, by Pillow and torch alone."""
    image = Image.open(path).convert("RGB").resize((128, 256), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return ((pixels - MEAN) / STD).permute(2, 0, 1)


def feature(model: nn.Module, folder: Path) -> Tensor:
    """The mean of the vectors of a tracklet's images, each divided by its norm."""
    with torch.no_grad():
        found = [model(frame(path)[None])[0] for path in sorted(folder.iterdir())]
    return torch.stack([vector / vector.norm() for vector in found]).mean(0)


def extracted(folder: Path, output: Path, *words: str) -> FeatureTable:
    words = ("--pretrained", NAME, *words, "--accelerator", "cpu", "--num_workers", "0")
    done = run("extract", str(folder), *words, "-o", str(output))
    assert done.returncode == 0, done.stderr
    return read_features(output)


def test_features_are_those_of_pillow_and_torchreid(
    theirs: nn.Module, weights: str, images: Path, tmp_path: Path
) -> None:
    table = extracted(images, tmp_path / "f.parquet", "--weights", weights)
    assert table.dimension == 512 and table.num_frames.tolist() == [3, 2]
    assert table.model == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert table.checkpoint == f"{NAME} ({weights})"
    for name, found in zip(table.names, torch.from_numpy(table.features), strict=True):
        torch.testing.assert_close(found, feature(theirs, Path(name)), rtol=0, atol=1e-5)


def test_published_features_of_real_images(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "weights" / "osnet_x0_25_msmt17.pth"
    if not file.exists():
        pytest.skip(f"no {file}")
    model = torchreid_model()
    known = torch.load(file, weights_only=True)["state_dict"]
    assert model.load_state_dict(known, strict=False).missing_keys == [
        "classifier.weight",
        "classifier.bias",
    ]
    with zipfile.ZipFile(real_file(real_data, "market1501_subset.zip")) as archive:
        names = [n for n in archive.namelist() if n.startswith("query/") and n.endswith(".jpg")]
        for place, name in enumerate(names[:4]):
            (tmp_path / f"{place % 2}").mkdir(exist_ok=True)
            (tmp_path / f"{place % 2}" / f"{place}.jpg").write_bytes(archive.read(name))
    table = extracted(tmp_path, tmp_path / "f.parquet", "--weights", str(file))
    for name, found in zip(table.names, torch.from_numpy(table.features), strict=True):
        torch.testing.assert_close(found, feature(model, Path(name)), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_published_weights_on_the_market_subset(real_data: Path, tmp_path: Path) -> None:
    import runpy

    file = real_data / "weights" / "osnet_x0_25_msmt17.pth"
    if not file.exists():
        pytest.skip(f"no {file}")
    sources = ("market1501_subset.zip", "market1501_subset_tracklets.json")
    given = [str(real_file(real_data, name)) for name in sources]
    script = Path(__file__).resolve().parents[2] / "scripts" / "market_subset.py"
    assert runpy.run_path(str(script))["main"]([*given, str(tmp_path / "market")]) == 0
    words = ("--pretrained", NAME, "--weights", str(file), "--dataset", "folder", "--json")
    where = ("--root", str(tmp_path / "market"), "--report", str(tmp_path / "report"))
    done = run("evaluate", *words, *where)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["rankings"]["common"]
    assert found["queries_counted"] == 120
    assert abs(found["rank1"] - 106 / 120) < 1.5 / 120
    assert abs(found["mAP"] - 0.784) < 0.002


_LIGHT = ("osnet_x0_5_msmt17", "osnet_ain_x1_0_msmt17", "mobilenetv2_x1_0_market1501")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in _LIGHT else [pytest.mark.slow]) for name in PRETRAINED],
)
def test_each_entry_answers_as_torchreids_network(name: str, images: Path, tmp_path: Path) -> None:
    entry = PRETRAINED[name]
    model = torchreid_model(entry.architecture)
    found = pretrained(name, save(torchreid_checkpoint(model, "module."), tmp_path))
    data = found.experiment.data
    assert (data.height, data.width, data.frames, found.people) == (256, 128, 1, [])
    files = sorted((images / "a").iterdir())
    with torch.no_grad():
        vectors = [found.model(frame(file)[None, :, None]).features[0] for file in files]
        expected = feature(model, images / "a")
    torch.testing.assert_close(torch.stack(vectors).mean(0), expected, rtol=0, atol=1e-5)
    assert entry.url.startswith("https://") and entry.licence == "MIT"


def test_the_names_are_architecture_and_dataset() -> None:
    assert {n.removeprefix(f"{e.architecture}_") for n, e in PRETRAINED.items()} == {
        "market1501",
        "msmt17",
    }
    assert len({entry.url for entry in PRETRAINED.values()}) == len(PRETRAINED)
    assert recipe_experiment(NAME).data.resize == "pillow"


# ---- the commands --------------------------------------------------------------------------------


def test_evaluate_needs_no_run_and_names_the_weights(
    weights: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--pretrained", NAME, "--weights", weights, "--dataset", "folder")
    done = run("evaluate", *words, "--root", str(dataset), "--data.num_workers", "0")
    assert done.returncode == 0, done.stderr
    assert f"{NAME}, trained on MSMT17: {weights}" in done.stdout
    report = tmp_path / "runs" / f"{NAME}-{dataset.name}" / "report"
    settings = json.loads((report / "metrics.json").read_text())["settings"]
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert settings["pretrained"] == settings["model.backbone"] == NAME
    assert (settings["weights"], settings["weights_sha256"]) == (weights, digest)
    assert (settings["frames"], settings["frame_size"]) == ("all frames", "256 x 128")
    page = (report / "report.html").read_text()
    assert NAME in page and weights in page and digest in page
    # The folder is not taken for a run.
    done = run("evaluate", "--dataset", "folder", "--root", str(dataset))
    assert done.returncode == 2 and "found no run" in done.stderr


def test_search_in_its_features_and_not_in_those_of_another_network(
    weights: str, theirs: nn.Module, dataset: Path, gallery: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.parquet"
    extracted(dataset / "gallery", mine, "--weights", weights, "--layout", "folder")
    query = str(dataset / "query" / "101" / "c0" / "t0")
    words = (query, "--pretrained", NAME, "--weights", weights, "--json")
    done = run("search", *words, "--gallery", str(mine))
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)["queries"]
    with torch.no_grad():
        known = feature(theirs, Path(query))
    cosine = torch.nn.functional.cosine_similarity(
        known[None], torch.from_numpy(read_features(mine).features)
    )
    nearest = answer["results"][0]["distance"]
    assert nearest == pytest.approx(1 - float(cosine.max()), abs=1e-5)
    refused = run("search", *words, "--gallery", str(gallery))
    assert refused.returncode == 2 and "extract both with one checkpoint" in refused.stderr
    # Another file of the same network is another network, too.
    other = save({"state_dict": torchreid_model(identities=3).state_dict()}, tmp_path)
    refused = run("search", query, "--pretrained", NAME, "--weights", other, "--gallery", str(mine))
    assert refused.returncode == 2 and NAME in refused.stderr
    # Two feature files need no network at all.
    done = run("search", str(mine), "--pretrained", NAME, "--gallery", str(mine))
    assert done.returncode == 0, done.stderr


def test_weights_that_were_put_into_the_cache(
    weights: str, images: Path, hub_cache: Path, tmp_path: Path
) -> None:
    place = hub_cache / f"{NAME}.pth"
    place.write_bytes(Path(weights).read_bytes())
    assert extracted(images, tmp_path / "f.parquet").checkpoint == f"{NAME} ({place})"


@pytest.mark.parametrize("command", ["evaluate", "extract", "search"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pretrained", "osnet_x0_25_msmt"), f"did you mean {NAME} or "),
        (("--pretrained", "fastreid_bot_r50_msmt17"), "--model.weights fastreid_bot_r50_msmt17"),
        (("--pretrained", "zzz"), "known are osnet_x0_25_market1501, "),
        (("--weights", "w.pth"), "--pretrained NAME"),
        (("--pretrained", NAME, "--checkpoint", "c.ckpt"), "give one of the two"),
        (("--pretrained", NAME), "drive.google.com"),
        (("--pretrained", NAME, "--weights", "no.pth"), "no.pth is not there"),
        (("--pretrained", NAME, "--weights", "{folder}"), "is a folder"),
    ],
)
def test_refused(
    command: str,
    words: tuple[str, ...],
    said: str,
    dataset: Path,
    gallery: Path,
    hub_cache: Path,
    tmp_path: Path,
) -> None:
    place = {
        "evaluate": ("--dataset", "folder", "--root", str(dataset), "--report", f"{tmp_path}/r"),
        "extract": (str(dataset / "query"), "-o", str(tmp_path / "f.parquet")),
        "search": (str(dataset / "query"), "--gallery", str(gallery)),
    }[command]
    done = run(command, *(word.format(folder=tmp_path) for word in words), *place)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    if said == "drive.google.com":
        assert str(hub_cache / f"{NAME}.pth") in done.stderr
        assert "--weights FILE" in done.stderr
    assert not (tmp_path / "f.parquet").exists() and not (tmp_path / "r").exists()


def broken(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    state["fc.0.weight"] = torch.full_like(state["fc.0.weight"], float("nan"))
    return state


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "wider",
            r"conv1\.conv\.weight is \(32, 3, 7, 7\) in the file, \(16, 3, 7, 7\) in the net",
        ),
        ("without fc", r"fc\.0\.weight is not in the file; .* and 3 more"),
        ("more", r"conv6\.weight is not in the network"),
        ("another", r"conv1\.conv\.weight; they start with conv1\.weight"),
        ("not finite", r"fc\.0\.weight"),
        ("other dataset", "751 identities, that of Market-1501, .* osnet_x0_25_market1501"),
    ],
)
def test_a_file_of_another_network(theirs: nn.Module, tmp_path: Path, kind: str, said: str) -> None:
    state = theirs.state_dict()
    files = {
        "wider": lambda: torchreid_model("osnet_x0_5").state_dict(),
        "without fc": lambda: {n: t for n, t in state.items() if not n.startswith("fc.")},
        "more": lambda: {**state, "conv6.weight": torch.zeros(3)},
        "another": lambda: torchreid_model("resnet18").state_dict(),
        "not finite": lambda: broken(state),
        "other dataset": lambda: {**state, "classifier.weight": torch.zeros(751, 512)},
    }
    with pytest.raises(UserError, match=said) as caught:
        pretrained(NAME, save(files[kind](), tmp_path))
    assert "\n" not in str(caught.value)


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["file", NAME])
@pytest.mark.parametrize("block", ["none", "snl"])
def test_training_starts_with_the_layer_of_512_outputs(
    theirs: nn.Module, weights: str, hub_cache: Path, source: str, block: str
) -> None:
    (hub_cache / f"{NAME}.pth").write_bytes(Path(weights).read_bytes())
    given = weights if source == "file" else source
    config = ReidModelConfig(backbone=NAME, block=block, weights=given)
    net, report = build_network(config, 5, size=(256, 128), progress=False)
    assert report is not None and report.note is None and report.new == ()
    assert (report.matched_fraction, report.used_fraction) == (1, 1)
    assert net.eval().feature_dim == 512
    clips = torch.randn(2, 3, 3, 256, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [theirs(clip.transpose(0, 1)).mean(0) for clip in clips]
        torch.testing.assert_close(net(clips).raw, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_other_backbone_says_that_it_leaves_the_layer_out(weights: str) -> None:
    config = ReidModelConfig(backbone="osnet_x0_25", block="none", weights=weights)
    net, report = build_network(config, 5, progress=False)
    assert net.feature_dim == 128 and report is not None
    assert report.note is not None and f"{NAME} keeps it" in report.note


def test_a_name_that_is_nearly_that_of_published_weights() -> None:
    config = ReidModelConfig(backbone=NAME, block="none", weights="osnet_x0_25_msmt_17")
    with pytest.raises(UserError, match=f"Did you mean '{NAME}'"):
        build_network(config, 5, progress=False)


@pytest.mark.parametrize(
    "block",
    ["snl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "nl"))],
)
def test_a_training_from_them(
    theirs: nn.Module, weights: str, dataset: Path, tmp_path: Path, block: str
) -> None:
    model = {"model__backbone": NAME, "model__weights": weights, "model__block": block}
    more = {"data__resize": "pillow", "optimizer__epochs": 1, "data__height": 64}
    done = run("train", *options(dataset, tmp_path, **model, **more))
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    trained = load_trained(folder / "checkpoints" / "last.ckpt")
    assert trained.model.feature_dim == 512 and trained.pretrained is None
    start, moved = theirs.fc[0].weight.detach(), trained.model.trunk.fc[0].weight.detach()
    assert not torch.equal(moved, start) and (moved - start).abs().max() < 0.1
    done = run("evaluate", "--checkpoint", str(folder), "--report", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    # Its checkpoint is used by --checkpoint, and not as a file of the published network.
    words = ("--pretrained", NAME, "--weights", str(folder / "checkpoints" / "last.ckpt"))
    refused = run("extract", str(dataset), "-o", str(tmp_path / "f.parquet"), *words)
    assert refused.returncode == 2 and "is used by --checkpoint" in refused.stderr
