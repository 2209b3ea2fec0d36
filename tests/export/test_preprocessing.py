"""``export --with_preprocessing``: decoded frames in, without any code of the project."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

import reid
from tests.export.checkpoints import HALF, image_checkpoint, video_checkpoint
from tests.export.test_export import UNTIMED, assert_same_guesses, guesses
from tests.pages import blocks
from tests.reid import little
from tests.tiny import environment, only_run, run_here
from tests.videos import write_streams, write_video
from video_snl.config.task_spec import VIDEO
from video_snl.config.video import DataConfig
from video_snl.data.transforms.geometry import crop_clips, normalise
from video_snl.data.video.clip_sampling import ShortVideoError
from video_snl.data.video.dataset import clip_rule_at
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


# In this process nothing of ours can be imported, nor torch.
ALONE = "import sys\nsys.modules |= dict.fromkeys(['torch', 'reid', 'video_snl'])\n"


def alone(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-c", ALONE + code]
    return subprocess.run(words, capture_output=True, text=True, env=environment())


def programs() -> list[str]:
    found = [block.text for block in blocks("python") if block.page == "docs/deployment.md"]
    assert len(found) == 2
    return found


def numbered(folder: Path, frames: int) -> None:
    """Rename the frames, so that text sorts them otherwise, and make the first one a JPEG file."""
    for number, path in enumerate(sorted(folder.iterdir()), start=8):
        if number == 8:
            Image.open(path).save(folder / "8.jpg", quality=95)
            path.unlink()
        else:
            path.rename(folder / f"{number}{path.suffix}")
    assert len(list(folder.iterdir())) == frames
    (folder / "notes.txt").touch()


@pytest.mark.slow
def test_the_page_needs_no_code_of_the_project(
    exported: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(exported.read_bytes())
    data = little.write_folder(tmp_path / "people")
    words = little.options(data, tmp_path / "runs", model__block="snl", optimizer__epochs=1)
    assert little.run("train", *words).returncode == 0
    run = str(only_run(tmp_path / "runs"))
    done = little.run("export", "--checkpoint", run, "-o", "people.onnx", *UNTIMED)
    assert done.returncode == 0, done.stderr
    numbered(data / "gallery" / "101" / "c1" / "t0", 5)
    numbered(data / "query" / "101" / "c0" / "t0", 3)
    people, videos = programs()

    done = alone(people)
    assert done.returncode == 0, done.stderr
    network = reid.load(run, device="cpu")
    one, two = (
        network.extract(f"people/{place}/t0")[0] for place in ("query/101/c0", "gallery/101/c1")
    )
    expected = 1 - one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert float(done.stdout.split()[-1]) == pytest.approx(expected, abs=1e-4)

    turned = {"rotation": 90, "mirrored": True}
    write_streams(Path("plain.mp4"), [(96, 120)], frames=30)
    write_streams(Path("turned.mp4"), [(96, 120)], frames=30, **turned)
    write_streams(Path("short.mp4"), [(96, 120)], frames=3)
    names = ["plain.mp4", "turned.mp4", "short.mp4"]
    done = alone(f"for name in {names}:\n    exec({videos!r}.replace('video.avi', name))\n")
    assert "the video has 3 frames, a clip spans 4" in done.stderr and done.returncode == 1
    found = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert len(found) == 2
    for name, (label, score) in zip(names, found, strict=False):
        [answer] = guesses("--checkpoint", str(checkpoint), "--clips", "1", name)
        best = answer["predictions"][0]
        assert label == best["class"]
        # The resized pixels differ by at most 1.
        assert float(score) == pytest.approx(best["score"], abs=2e-3)


def test_the_page_chooses_the_frames_of_the_evaluation() -> None:
    text = programs()[1]
    code = text[text.index("def clip_numbers") : text.index("with av.open")]
    for sampling, short, stride, seconds in itertools.product(
        ("dense", "uniform"), ("error", "repeat_last", "wrap"), (1, 3), (None, 0.1)
    ):
        if sampling == "uniform" and (stride, seconds) != (1, None):
            continue  # refused
        config = DataConfig(
            clip_frames=5,
            sampling=sampling,  # type: ignore[arg-type]
            short_videos=short,  # type: ignore[arg-type]
            frame_stride=stride,
            stride_seconds=seconds,
        )
        names = {"data": asdict(config)}
        exec(code, names)  # noqa: S102
        rule = clip_rule_at(config, 25)
        for length in range(31):
            try:
                expected = rule.centre(length)
            except ShortVideoError as error:
                with pytest.raises(SystemExit, match=f"{length} frames, a clip spans {error.span}"):
                    names["clip_numbers"](length, 25)  # type: ignore[operator]
            else:
                assert names["clip_numbers"](length, 25) == expected  # type: ignore[operator]


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
