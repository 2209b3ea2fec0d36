"""Commands on checkpoints, published folders and exported files that are damaged or hold NaN."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.export.checkpoints import flipped, image_checkpoint, video_checkpoint
from tests.tiny import run_here
from tests.videos import write_video
from video_snl.errors import UserError
from video_snl.export.formats import check_seal
from video_snl.runs.published import CONFIG, CONFIG_DIGEST, WEIGHTS, WEIGHTS_DIGEST
from video_snl.runs.trained import load_trained

CPU = ["--accelerator", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_video(tmp_path_factory.mktemp("videos") / "a.avi", frames=8))


@pytest.fixture(scope="module")
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "net"
    done = run_here("publish", "--checkpoint", str(checkpoint), "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def in_a_weight(path: Path) -> int:
    """Return the place of a byte of the first block's weights."""
    weights = load_trained(path).model.state_dict()
    name = next(name for name in weights if name.endswith("combine.weight"))
    return path.read_bytes().index(weights[name].numpy().tobytes()) + 2


def nothing_written(folder: Path) -> bool:
    """Apart from an empty folder that was to be the output."""
    return not any(path.is_file() for path in folder.rglob("out*/*"))


Commands = dict[str, Callable[[str, str], list[str]]]
COMMANDS: Commands = {
    "predict": lambda video, out: [video, *CPU],
    "explain": lambda video, out: [video, "-o", out, *CPU],
    "spectrum": lambda video, out: [video, *CPU],
    "export": lambda video, out: ["-o", f"{out}.pt2", "--runs", "0"],
    "publish": lambda video, out: ["-o", out],
    "serve": lambda video, out: ["--port", "0", *CPU],
    "evaluate": lambda video, out: ["--output", out, "--trainer.accelerator", "cpu"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_flipped_weight_and_names_the_other_checkpoint(
    command: str, checkpoint: Path, video: str, tmp_path: Path
) -> None:
    best = flipped(
        checkpoint, tmp_path / "run" / "checkpoints" / "best.ckpt", in_a_weight(checkpoint)
    )
    last = best.with_name("last.ckpt")
    shutil.copy(checkpoint, last)
    words = COMMANDS[command](video, str(tmp_path / "out"))
    done = run_here(command, "--checkpoint", str(tmp_path / "run"), *words)
    assert done.returncode == 2 and done.stdout == ""
    line = done.stderr.strip().splitlines()[-1]
    assert str(best) in line and f"--checkpoint {last}" in line
    assert "Traceback" not in done.stderr and nothing_written(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "value", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)]
)
def test_every_command_refuses_weights_that_are_not_finite(
    command: str, value: float, checkpoint: Path, video: str, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("running_var"))
    content["state_dict"][name][0] = value
    path = tmp_path / "bad.ckpt"
    torch.save(content, path)
    words = COMMANDS[command](video, str(tmp_path / "out"))
    done = run_here(command, "--checkpoint", str(path), *words)
    assert done.returncode == 2 and done.stdout == ""
    line = done.stderr.strip().splitlines()[-1]
    assert str(path) in line and name.removeprefix("model.") in line
    assert nothing_written(tmp_path)


def overflowing(checkpoint: Path, path: Path) -> Path:
    """All weights are finite; the products in the first layers are not."""
    content = torch.load(checkpoint, weights_only=True)
    for name, value in content["state_dict"].items():
        if name.endswith("conv.weight"):
            value.fill_(3e38)
    torch.save(content, path)
    return path


def test_outputs_that_are_not_finite_are_an_error(
    checkpoint: Path, video: str, tmp_path: Path
) -> None:
    path = str(overflowing(checkpoint, tmp_path / "huge.ckpt"))
    for window in ([], ["--window", "4f"]):
        words = ["--json", "--clips", "1", "--crops", "1", *window, *CPU]
        done = run_here("predict", "--checkpoint", path, video, *words)
        assert done.returncode == 2 and json.loads(done.stdout) == []
        assert f"{video}: the network's scores are not finite" in done.stderr
    words = ["-o", str(tmp_path / "a.pt2"), "--runs", "0", "--dynamic", "none"]
    done = run_here("export", "--checkpoint", path, *words)
    assert done.returncode == 2 and "not finite" in done.stderr
    assert not (tmp_path / "a.pt2").exists()


def test_evaluate_names_the_video_whose_scores_are_not_finite(
    checkpoint: Path, root: Path, tmp_path: Path
) -> None:
    path = str(overflowing(checkpoint, tmp_path / "huge.ckpt"))
    words = ["--data.root", str(root), "--data.dataset", "ucf101", "--clips", "1", "--crops", "1"]
    words += ["--trainer.accelerator", "cpu", "--output", str(tmp_path / "out")]
    done = run_here("evaluate", "--checkpoint", path, *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert ".avi" in line and "not finite" in line
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_an_image_network_that_is_not_finite(tmp_path: Path) -> None:
    path = image_checkpoint(tmp_path / "best.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.conv.weight"].fill_(float("nan"))
    torch.save(content, path)
    done = run_here("publish", "--checkpoint", str(path), "-o", str(tmp_path / "out"))
    assert done.returncode == 2 and "conv.weight" in done.stderr


# ---- published folders and exported files --------------------------------------------------------


def test_a_published_folder_is_compared_with_its_hash(published: Path, tmp_path: Path) -> None:
    assert len(json.loads((published / CONFIG).read_text())[WEIGHTS_DIGEST]) == 64
    whole = (published / WEIGHTS).read_bytes()
    damaged = tmp_path / "net"
    shutil.copytree(published, damaged)
    # The head of the file, and weights from its start to its end.
    for offset in (9, 40, len(whole) // 2, len(whole) - 1):
        flipped(published / WEIGHTS, damaged / WEIGHTS, offset)
        with pytest.raises(UserError, match="fetch the whole folder again") as caught:
            load_trained(damaged / WEIGHTS)
        assert str(damaged / WEIGHTS) in str(caught.value)
    (damaged / WEIGHTS).write_bytes(whole[:-7])
    with pytest.raises(UserError, match="cut short"):
        load_trained(damaged / WEIGHTS)


def test_every_entry_of_a_published_configuration_counts(published: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "net"
    shutil.copytree(published, damaged)
    text = (published / CONFIG).read_text()
    mean = str(json.loads(text)["mean"][0])
    changes = {mean: f"9{mean[1:]}", '"weights_sha256"': '"weights_sha257"'}
    changes |= {'"config_sha256"': '"config_sha257"', '"epoch": ': '"epoch": 1'}
    for before, after in changes.items():
        assert before in text
        (damaged / CONFIG).write_text(text.replace(before, after, 1))
        with pytest.raises(UserError, match="differs from what was published"):
            load_trained(damaged / WEIGHTS)
    (damaged / CONFIG).write_text(json.dumps(json.loads(text)))  # the form does not count
    load_trained(damaged / WEIGHTS)


def test_a_folder_published_before_there_was_a_hash_is_read(
    published: Path, tmp_path: Path
) -> None:
    old = tmp_path / "net"
    shutil.copytree(published, old)
    config = json.loads((old / CONFIG).read_text())
    del config[WEIGHTS_DIGEST], config[CONFIG_DIGEST]
    (old / CONFIG).write_text(json.dumps(config))
    assert load_trained(old / WEIGHTS).class_names == load_trained(published / WEIGHTS).class_names


# One bit in the middle of an ONNX file, test_export.py flips.
@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_flipped_bit_in_an_exported_file_is_an_error(
    suffix: str, checkpoint: Path, video: str, tmp_path: Path
) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    whole = tmp_path / f"whole{suffix}"
    words = ["--checkpoint", str(checkpoint), "-o", str(whole), "--runs", "0", "--dynamic", "none"]
    done = run_here("export", *words)
    assert done.returncode == 0, done.stderr
    size = whole.stat().st_size
    expected = run_here("predict", "--model", str(whole), video, "--json")
    assert expected.returncode == 0, expected.stderr
    damaged, noticed = tmp_path / f"damaged{suffix}", 0
    for offset in range(size // 9, size, size // 9):
        flipped(whole, damaged, offset)
        done = run_here("predict", "--model", str(damaged), video, "--json")
        assert "Traceback" not in done.stderr
        if done.returncode == 2:
            noticed += 1
            assert str(damaged) in done.stderr and done.stdout == ""
        else:
            assert json.loads(done.stdout) == json.loads(expected.stdout)
    assert noticed >= 6  # the others are padding between the entries
    if suffix == ".onnx":
        assert noticed == len(range(size // 9, size, size // 9))


def test_files_without_a_seal_pass(tmp_path: Path) -> None:
    for name, content in (("a.onnx", b""), ("b.onnx", b"\x08\x0a" * 40)):
        (tmp_path / name).write_bytes(content)
        check_seal(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        check_seal(tmp_path / "none.onnx")


def test_publish_refuses_a_network_whose_outputs_overflow(tmp_path: Path) -> None:
    """All weights are finite, what they compute is not."""
    checkpoint = video_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("weight"))
    content["state_dict"][name].flatten()[:] = 3e38
    torch.save(content, checkpoint)
    done = run_here("publish", "--checkpoint", str(checkpoint), "-o", str(tmp_path / "folder"))
    assert done.returncode == 2
    assert "finite" in done.stderr
    assert not (tmp_path / "folder").exists()
