"""``--pretrained``: published networks by name, their weights, and what they see of a video."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny import run_command
from tests.videos import write_video
from video_snl.cli.main import main
from video_snl.commands.predict import Views
from video_snl.config.backbones import PRETRAINED
from video_snl.config.video import DataConfig, ModelConfig
from video_snl.data.video.dataset import EvaluationDataset, clip_rule
from video_snl.data.video.inference import read_views
from video_snl.data.video.records import Video
from video_snl.errors import OptionsError, UserError
from video_snl.models.video import build_model
from video_snl.models.weights.sources import locate
from video_snl.runs.pretrained import describe_input, load_pretrained, recipe_experiment
from video_snl.tasks.action import ActionRecognition

XS = "x3d_xs_kinetics400_dequantised.pyth"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way into a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "cache" / "hub" / "checkpoints"


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a refused command says."""
    try:
        code = main(list(words))
    except SystemExit as stopped:
        code = stopped.code
    assert code not in (0, None)
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def video_at(path: Path, rate: int, frames: int) -> str:
    """A video whose i-th frame is a grey of 2 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "1"}
        for i in range(frames):
            image = np.full((48, 64, 3), 2 * i, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return str(path)


# ---- what a network sees -----------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "stride"), [(10, 4), (15, 6), (30, 12), (60, 24), (1, 1)])
def test_the_stride_follows_the_frame_rate_of_the_file(
    tmp_path: Path, rate: int, stride: int
) -> None:
    data = recipe_experiment("x3d_xs").data
    path = video_at(tmp_path / "a.mp4", rate, 100)
    assert clip_rule(data, path).stride == stride
    [clip] = read_views(path, data, 1)
    span = 3 * stride + 1
    expected = [2 * ((100 - span) // 2 + k * stride) for k in range(4)]
    assert clip.shape == (4, 182, 243, 3)
    assert np.abs(clip.mean((1, 2, 3)) - expected).max() < 1.5


def test_a_folder_of_frames_has_no_rate(tmp_path: Path) -> None:
    data = recipe_experiment("x3d_xs").data
    assert clip_rule(data, str(tmp_path)).stride == data.frame_stride == 12
    named = DataConfig(reader="frames", frame_stride=3, stride_seconds=1.0)
    assert clip_rule(named, "anything").stride == 3


def test_a_video_shorter_than_the_span_repeats_its_last_frame(tmp_path: Path) -> None:
    path = video_at(tmp_path / "a.mp4", 30, 20)
    [clip] = read_views(path, recipe_experiment("x3d_xs").data, 1)
    greys = [round(float(frame.mean()) / 2) for frame in clip]
    assert greys[0] == 0 and abs(greys[1] - 12) <= 1 and greys[2] == greys[3] >= 18


def test_frames_of_a_named_size(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.avi"))
    data = DataConfig(frame_size=[40, 33], crop=32)
    sample = EvaluationDataset([Video(path, 0)], data, 2)[0, 0]
    assert sample["views"].shape == (2, 4, 40, 33, 3) and sample["size"].tolist() == [40, 33]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_size": [40]}, r"data\.frame_size=\[40\]: give height and width"),
        ({"frame_size": [40, 0]}, r"data\.frame_size=\[40, 0\]"),
        ({"frame_size": [40, 33], "crop": 34}, r"data\.crop=34 does not fit data\.frame_size"),
        ({"short_side": 33, "crop": 34}, r"data\.crop=34 does not fit data\.short_side=33"),
        ({"stride_seconds": 0.0}, r"data\.stride_seconds=0"),
        ({"stride_seconds": float("nan")}, r"data\.stride_seconds=nan"),
        ({"stride_seconds": 0.5, "sampling": "uniform"}, r"stride_seconds=0\.5 means nothing"),
        ({"frame_stride": 2, "sampling": "uniform"}, r"frame_stride=2 means nothing"),
    ],
)
def test_frames_that_cannot_be_cut(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        EvaluationDataset([], DataConfig(**options), 1)  # type: ignore[arg-type]


def test_views_are_those_of_the_entry_unless_given() -> None:
    def views(**options: object) -> tuple[int, int]:
        asked = Views(**options)  # type: ignore[arg-type]
        return asked.count, asked.crops_of_clip

    def published(**options: object) -> tuple[int, int]:
        asked = Views(**options).published("x3d_xs")  # type: ignore[arg-type]
        return asked.count, asked.crops_of_clip

    assert views() == (10, 3) and published() == (3, 1)
    assert published(clips=2, crops=3) == (2, 3)
    assert published(window="2s") == (1, 1) and views(window="2s") == (1, 3)
    assert "3 x 1 views" in describe_input("x3d_xs", 3, 1)
    assert "4 frames, 0.4 s apart, 160 x 160 pixels" in describe_input("x3d_xs", 3, 1)


# ---- names and files ---------------------------------------------------------------------------


def test_exactly_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: str) -> str:
        return error_of(capsys, "predict", *words, "a.mp4")

    assert "--checkpoint a.ckpt and --pretrained x3d_xs: give one of the two." in error(
        "--pretrained", "x3d_xs", "--checkpoint", "a.ckpt"
    )
    assert "--model a.onnx and --pretrained x3d_xs: give one of the two." in error(
        "--pretrained", "x3d_xs", "--model", "a.onnx"
    )
    assert "give one of the three" in error(
        "--pretrained", "x3d_xs", "--model", "a.onnx", "--checkpoint", "a.ckpt"
    )
    assert "--weights a.pth goes with" in error("--weights", "a.pth")
    assert "did you mean x3d_s or x3d_xs" in error("--pretrained", "x3d_sx")
    assert "known are pytorchvideo_i3d_r50, slow_r50" in error("--pretrained", "zzzz")
    both = "export", "--pretrained", "x3d_xs", "--checkpoint", "a.ckpt"
    assert "--pretrained x3d_xs: give one of the two." in error_of(capsys, *both)


def test_without_a_network_the_address_and_the_place_are_named(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_video(tmp_path / "a.avi"))
    line = error_of(capsys, "predict", "--pretrained", "r3d_18", path)
    assert PRETRAINED["r3d_18"].weights["kinetics"] in line
    assert str(cache / "r3d_18-b3b3357e.pth") in line and "--weights FILE" in line
    assert not list(cache.glob("*.pth"))


def test_names_of_weights_in_training(cache: Path) -> None:
    with pytest.raises(UserError, match="x3d_m, which do not fit 'x3d_xs'"):
        locate("x3d_m", "x3d_xs")
    with pytest.raises(UserError, match="Did you mean 'x3d_xs'"):
        locate("x3d_xx", "x3d_xs")
    cache.mkdir(parents=True)
    (cache / "X3D_XS.pyth").write_bytes(b"put there by hand")
    assert locate("x3d_xs", "x3d_xs") == locate("kinetics", "x3d_xs") == cache / "X3D_XS.pyth"


def test_files_that_are_not_the_weights(
    tmp_path: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "classes.pth"
    state = torch.load(real_data / "weights" / XS, weights_only=True)["model_state"]
    torch.save(state | {n: state[n][:7] for n in state if "proj" in n}, odd)
    with pytest.raises(UserError, match=r"do not name the 400 classes.*7 classes, is dropped"):
        load_pretrained("x3d_xs", str(odd))
    found = load_pretrained("x3d_xs", str(odd), classes=False).model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if "proj" not in name}
    assert kept and all(torch.equal(found[name], tensor) for name, tensor in kept.items())
    assert "head: new, 400 classes; the file's, 7 classes, is dropped" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"do not fit backbone x3d_xs.*conv_t"):
        load_pretrained("x3d_xs", str(real_data / "weights" / "osnet_x0_25_msmt17.pth"))
    with pytest.raises(UserError, match="no such file"):
        load_pretrained("x3d_xs", str(tmp_path / "none.pth"))
    cut = tmp_path / "cut.pth"
    cut.write_bytes((real_data / "weights" / XS).read_bytes()[:100_000])
    with pytest.raises(UserError, match="cut short"):
        load_pretrained("x3d_xs", str(cut))


def test_a_trained_network_is_no_published_one(tmp_path: Path) -> None:
    experiment = replace(
        recipe_experiment("x3d_xs"), model=ModelConfig(backbone="x3d_xs", block="snl")
    )
    model = build_model(experiment.model, 400)[0]
    task = ActionRecognition(
        experiment, model, [str(c) for c in range(400)], mean=(0.5,) * 3, std=(0.5,) * 3
    )
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="trained with video-snl, which is used by --checkpoint"):
        load_pretrained("x3d_xs", str(tmp_path / "last.ckpt"))


# ---- the real network --------------------------------------------------------------------------


def plain_scores(model: torch.nn.Module, path: Path) -> Tensor:
    """Probabilities by plain code: three clips of 4 frames, 0.4 s apart, centre 160 of 182."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    stride = round(0.4 * rate)
    last = len(frames) - 1 - 3 * stride
    scores = []
    for start in (0, (last + 1) // 2, last):
        clip = torch.from_numpy(np.stack([frames[start + k * stride] for k in range(4)]))
        clip = clip.permute(0, 3, 1, 2)
        height, width = clip.shape[2:]
        scale = 182 / min(height, width)
        size = [round(height * scale), round(width * scale)]
        clip = F.interpolate(clip, size, mode="bilinear", antialias=True)
        top, left = ((side - 160 + 1) // 2 for side in size)
        clip = clip[:, :, top : top + 160, left : left + 160].float() / 255
        clip = ((clip - 0.45) / 0.225).transpose(0, 1)[None]
        scores.append(model(clip)[0].softmax(-1))
    return torch.stack(scores).mean(0)


def test_archery(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, path = real_data / "weights" / XS, real_data / "weights" / "archery.mp4"
    words = ["predict", "--pretrained", "x3d_xs", "--weights", str(weights), "--json", str(path)]
    assert main([*words, "--accelerator", "cpu"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    best = result["predictions"][0]
    assert best["class"] == "archery" and best["score"] > 0.99
    trained = load_pretrained("x3d_xs", str(weights))
    with torch.inference_mode():
        expected = plain_scores(trained.model, path)
    for guess in result["predictions"]:
        index = trained.class_names.index(guess["class"])
        assert guess["score"] == pytest.approx(expected[index].item(), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_it_is_exported_without_training(
    suffix: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = real_data / "weights", str(tmp_path / f"model.{suffix}")
    network = ["--pretrained", "x3d_xs", "--weights", str(folder / XS)]
    assert main(["export", *network, "-o", file, "--runs", "0", "--with_preprocessing"]) == 0
    found = []
    for words in (network, ["--model", file]):
        capsys.readouterr()
        words = [*words, "--clips", "2", "--crops", "1", "--accelerator", "cpu", "--json"]
        assert main(["predict", *words, str(folder / "archery.mp4")]) == 0
        [result] = json.loads(capsys.readouterr().out)
        found.append({one["class"]: one["score"] for one in result["predictions"]})
    assert found[1] == pytest.approx(found[0], abs=1e-4)


@pytest.mark.slow
def test_originals_without_training(real_data: Path) -> None:
    """37 of the 49 videos whose class has a twin in Kinetics-400, within one video."""
    folder = real_data / "weights"
    twins = json.loads((folder / "ucf101_kinetics400_twins.json").read_text())
    done = run_command(
        "predict", "--pretrained", "x3d_xs", "--weights", str(folder / XS), "--json", "--top", "1",
        "--accelerator", "cpu", str(real_data / "ucf101_originals"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [
        result["predictions"][0]["class"] in twins[name]
        for result in json.loads(done.stdout)
        if (name := Path(result["video"]).name.split("_")[1]) in twins
    ]
    assert len(found) == 49
    assert abs(sum(found) - 37) <= 1
