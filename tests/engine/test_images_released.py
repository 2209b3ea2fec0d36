"""Checkpoints of the paper's released code, evaluated by ``video-snl evaluate``."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.image_trees import write_cifar
from tests.models.test_image_weights import preresnet20_with, reference, saved
from tests.released_states import resnet_state
from tests.tiny import run_here
from video_snl.models.released.state_dicts import Kind

STATISTICS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


@pytest.mark.parametrize(("kind", "told"), [("snl", None), ("cayley", None), ("nl", "nl")])
def test_released_preresnet(
    kind: Kind, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cifar"
    write_cifar(root, "cifar10", monkeypatch)
    source = saved(tmp_path / "model_best.pth.tar", preresnet20_with(kind, layers="1"))
    words = ["--checkpoint", source, "--model.backbone", "preresnet20_snl"]
    words += ["--data.dataset", "cifar10", "--data.root", str(root), "--data.statistics"]
    words += ["cifar_released", "--output", str(tmp_path / "report")]
    words += ["--kind", told] if told else []
    done = run_here("evaluate", *words)
    assert done.returncode == 0, done.stderr
    expected, labels = expected_scores(reference(source, "preresnet20", told), root)
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())
    best = expected.argmax(1)
    assert found["top1"] == pytest.approx((best == labels).float().mean().item())
    assert found["epoch"] is None and found["pictures"] == 4
    with (tmp_path / "report" / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["score"]) for row in rows] == pytest.approx(expected.amax(1).tolist(), 1e-4)


def expected_scores(network: torch.nn.Module, root: Path) -> tuple[Tensor, Tensor]:
    """Softmax of the test images, and their labels."""
    with (root / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        batch = pickle.load(file, encoding="latin1")
    images = torch.from_numpy(batch["data"]).view(-1, 3, 32, 32) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in STATISTICS)
    with torch.no_grad():
        logits = network.eval()((images - mean) / std)
    return logits.softmax(1), torch.tensor(batch["labels"])


def test_released_resnet_of_another_number_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cifar"
    write_cifar(root, "cifar10", monkeypatch)
    source = saved(tmp_path / "resnet.pth", resnet_state((3, 4, 6, 3), None, classes=7, stem=3))
    words = ["--checkpoint", source, "--model.backbone", "resnet50_cifar", "--data.dataset"]
    done = run_here("evaluate", *words, "cifar10", "--data.root", str(root))
    assert done.returncode == 2, done.stdout
    assert "knows 7 classes, the dataset has 10" in done.stderr


def test_released_file_of_another_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "cifar"
    write_cifar(root, "cifar10", monkeypatch)
    source = saved(tmp_path / "model_best.pth.tar", preresnet20_with("snl", layers="1"))
    words = ["--checkpoint", source, "--model.backbone", "preresnet56_snl"]
    done = run_here("evaluate", *words, "--data.dataset", "cifar10", "--data.root", str(root))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    done = run_here("evaluate", "--checkpoint", source)
    assert done.returncode == 2 and "was not written by video-snl train" in done.stderr
