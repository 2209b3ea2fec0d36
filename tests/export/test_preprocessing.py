"""``export --with_preprocessing``: decoded frames in, without any code of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from tests.export.checkpoints import CLASSES, HALF, image_checkpoint, video_checkpoint
from tests.export.test_export import UNTIMED, assert_same_guesses, guesses
from tests.pages import blocks
from tests.reid import little
from tests.tiny import environment, only_run, run_here
from tests.videos import write_video
from video_snl.config.task_spec import VIDEO
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.runs.trained import find_trained
from video_snl.tasks.preprocessing import PixelNetwork, to_pixels

INSIDE = ("--with_preprocessing", *UNTIMED)


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def frames(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("height", range(8, 14))
def test_the_crops_of_the_evaluation(height: int) -> None:
    for width in (8, 9, 10, 11):
        clips = frames(2, 3, height, width, 3)
        size, zeros = torch.tensor([[height, width]] * 2), torch.zeros(2, dtype=torch.bool)
        cropped = crop_clips(clips, size, torch.full((2, 2), 0.5), zeros, 8)
        found = PixelNetwork(Same(), (HALF, HALF), (8, 8))(clips)
        assert torch.equal(found, normalise(cropped, HALF, HALF))
        images = clips[:, 0]
        cut = center_crop(images.movedim(-1, 1), [8, 6]).movedim(1, -1)
        found = PixelNetwork(Same(), (HALF, HALF), (8, 6), "even")(images)
        assert torch.equal(found, normalise(cut[:, None], HALF, HALF).squeeze(2))


def test_normalising_is_inverted_exactly() -> None:
    values = torch.arange(256, dtype=torch.uint8)[None, None, None, :, None].expand(1, 2, 1, -1, 3)
    statistics = HALF, (0.01, 0.2, 0.9)
    assert torch.equal(to_pixels(normalise(values, *statistics), statistics), values)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of a map of a single row and column torch records that it is longer than one frame.
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"
    return video_checkpoint(path, side=64)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    video = str(write_video(folder / "a.avi", frames=30))
    path = folder / "model.onnx"
    done = run_here(
        "export", "--checkpoint", str(checkpoint), "-o", str(path), "--input", video, *INSIDE
    )
    assert done.returncode == 0, done.stderr
    assert "input: clips (batch, frames, height, width, channels=3), uint8, decoded" in done.stdout
    return path


def test_onnxruntime_takes_decoded_frames(exported: Path, checkpoint: Path) -> None:
    trained = find_trained(str(checkpoint))
    inside = VIDEO.make().preprocessed(trained)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for shape in ((1, 4, 64, 64, 3), (3, 6, 64, 85, 3), (2, 5, 70, 65, 3)):
        given = frames(*shape)
        (found,) = session.run(["logits"], {"clips": given.numpy()})
        with torch.no_grad():
            expected = inside.reference(given).numpy()
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_predict_takes_the_file_too(exported: Path, checkpoint: Path) -> None:
    video = str(exported.with_name("a.avi"))
    expected = guesses("--checkpoint", str(checkpoint), "--clips", "3", video)
    assert_same_guesses(guesses("--model", str(exported), "--clips", "3", video), expected)


def test_the_page_needs_no_code_of_the_project(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(exported.read_bytes())
    Path("video.avi").write_bytes(exported.with_name("a.avi").read_bytes())
    people = little.write_folder(tmp_path / "people")
    words = little.options(people, tmp_path / "runs", model__block="snl", optimizer__epochs=1)
    assert little.run("train", *words).returncode == 0
    run = only_run(tmp_path / "runs")
    done = little.run("export", "--checkpoint", str(run), "-o", "people.onnx", *UNTIMED)
    assert done.returncode == 0, done.stderr
    text = [block.text for block in blocks("python") if block.page == "docs/deployment.md"]
    assert len(text) == 2
    ours = "import sys\nassert not {'torch', 'reid', 'video_snl'} & set(sys.modules)\n"
    said = [
        subprocess.run(
            [sys.executable, "-I", "-c", f"{code}\n{ours}"],
            capture_output=True,
            text=True,
            env=environment(),
        )
        for code in text
    ]
    assert [done.returncode for done in said] == [0, 0], [done.stderr for done in said]
    assert said[1].stdout.split()[0] in CLASSES
    assert -1e-6 <= float(said[0].stdout.split()[-1]) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["preresnet20", "fcn_r50_d8"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_images(backbone: str, suffix: str, tmp_path: Path) -> None:
    checkpoint, path = image_checkpoint(tmp_path / "best.ckpt", backbone), tmp_path / f"m{suffix}"
    image = str(tmp_path / "a.png")
    Image.fromarray(frames(40, 48, 3).numpy()).save(image)
    words = ["--checkpoint", str(checkpoint), "-o", str(path), "--input", image, *INSIDE]
    done = run_here("export", *words)
    assert done.returncode == 0, done.stderr
    assert "input: images (batch, height, width, channels=3), uint8, decoded" in done.stdout
    assert_same_guesses(
        guesses("--model", str(path), image), guesses("--checkpoint", str(checkpoint), image)
    )
