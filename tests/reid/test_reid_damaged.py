"""Commands of ``reid`` on checkpoints that are damaged or hold NaN."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.reid.little import run

CPU = ["--accelerator", "cpu"]
COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "evaluate": lambda dataset, out: ["--report", str(out)],
    "extract": lambda dataset, out: [str(dataset / "query"), "-o", str(out / "a.parquet"), *CPU],
    "publish": lambda dataset, out: ["-o", str(out / "net")],
    "explain": lambda dataset, out: [str(dataset / "query/101/c0/t0"), "-o", str(out / "e"), *CPU],
    "spectrum": lambda dataset, out: [str(dataset / "query/101/c0/t0"), *CPU],
    "serve": lambda dataset, out: ["--port", "0", *CPU],
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flipped_weight_is_refused_and_the_other_checkpoint_is_named(
    command: str, with_block: Path, dataset: Path, tmp_path: Path, out: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(with_block, copy)
    best, last = (copy / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    state = torch.load(best, weights_only=True)["state_dict"]
    weight = max(state.values(), key=torch.Tensor.numel).numpy().tobytes()
    content = bytearray(best.read_bytes())
    content[content.index(weight) + 1] ^= 4
    best.write_bytes(content)
    done = run(command, "--checkpoint", str(copy), *COMMANDS[command](dataset, out))
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert str(best) in line and f"--checkpoint {last}" in line
    assert "Traceback" not in done.stderr and not written(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_that_are_not_finite_are_refused(
    command: str, with_block: Path, dataset: Path, tmp_path: Path, out: Path
) -> None:
    content = torch.load(with_block / "checkpoints" / "best.ckpt", weights_only=True)
    name = next(n for n in content["state_dict"] if n.endswith("running_mean"))
    content["state_dict"][name][0] = torch.nan
    path = tmp_path / "bad.ckpt"
    torch.save(content, path)
    done = run(command, "--checkpoint", str(path), *COMMANDS[command](dataset, out))
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert str(path) in line and name.removeprefix("model.") in line and not written(out)


@pytest.mark.parametrize("command", ["evaluate", "extract"])
def test_features_that_are_not_finite_are_refused(
    command: str, with_block: Path, dataset: Path, tmp_path: Path, out: Path
) -> None:
    """All weights are finite, and their products are not."""
    content = torch.load(with_block / "checkpoints" / "best.ckpt", weights_only=True)
    for name, value in content["state_dict"].items():
        if name.endswith("conv.weight"):
            value.fill_(3e38)
    path = tmp_path / "huge.ckpt"
    torch.save(content, path)
    done = run(command, "--checkpoint", str(path), *COMMANDS[command](dataset, out))
    assert done.returncode == 2 and not written(out)
    line = done.stderr.strip().splitlines()[-1]
    assert str(dataset / "query") in line and "not finite" in line
