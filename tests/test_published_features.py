"""Features and the linear probe by published weights, on real videos."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.tiny import run_here
from video_snl.config.statistics import STATISTICS

WEIGHTS = "x3d_xs_kinetics400_dequantised.pyth"


def _real(data: Path) -> tuple[Path, list[str]]:
    weights, ucf5 = data / "weights" / WEIGHTS, data / "ucf5"
    for path in (weights, ucf5):
        if not path.exists():
            pytest.skip(f"no {path}")
    return ucf5, ["features", "--pretrained", "x3d_xs", "--weights", str(weights)]


def test_published_weights_give_what_plain_torch_gives(real_data: Path, tmp_path: Path) -> None:
    """Four clips of a real video, read, resized and computed by hand."""
    from pytorchvideo.models.x3d import create_x3d

    ucf5, words = _real(real_data)
    path = next((ucf5 / "UCF-101" / "Archery").glob("*_c01.avi"), None) or next(ucf5.rglob("*.avi"))
    target = tmp_path / "f.npz"
    done = run_here(*words, "--clips", "4", "--num_workers", "1", str(path), "-o", str(target))
    assert done.returncode == 0, done.stderr
    stored = np.load(target)
    assert stored["feature"].shape == (4, 2048)

    model = create_x3d(
        input_clip_length=4,
        input_crop_size=160,
        model_num_class=400,
        dropout_rate=0.5,
        width_factor=2.0,
        depth_factor=2.2,
        stem_conv_kernel_size=(5, 3, 3),
        head_dim_out=2048,
    ).eval()
    file = real_data / "weights" / WEIGHTS
    model.load_state_dict(torch.load(file, weights_only=True)["model_state"])
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    stride = max(1, round(0.4 * rate))  # 12 frames at 30 a second
    free = len(frames) - (3 * stride + 1)
    mean, std = STATISTICS["kinetics"]
    for number in range(4):
        start = int(number * free / 3 + 0.5)
        clip = torch.from_numpy(np.stack(frames[start : start + 3 * stride + 1 : stride]))
        height, width = clip.shape[1:3]
        size = [round(side * 182 / min(height, width)) for side in (height, width)]
        small = F.interpolate(clip.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
        top, left = ((side - 160) // 2 for side in size)
        video = small[:, :, top : top + 160, left : left + 160].float() / 255
        video = ((video - mean[0]) / std[0]).permute(1, 0, 2, 3)[None]
        with torch.inference_mode():
            head = model.blocks[-1]
            for block in model.blocks[:-1]:
                video = block(video)
            expected = head.pool(video).flatten()
        np.testing.assert_allclose(stored["feature"][number], expected, atol=1e-4)
        times = stored["start"][number], stored["end"][number]
        assert times == pytest.approx((start / rate, (start + 3 * stride + 1) / rate), abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_probe_on_real_videos(real_data: Path, tmp_path: Path) -> None:
    """UCF-5, split 1: measured with plain code, 97.9 % of three clips."""
    ucf5, words = _real(real_data)
    target = str(tmp_path / "f.parquet")
    done = run_here(*words, "--data.root", str(ucf5), "-o", target, "--probe")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "f-probe" / "metrics.json").read_text())
    assert metrics["videos"] == 193 and metrics["classes"] == 5
    assert metrics["video_top1"] == pytest.approx(0.979, abs=0.01)
