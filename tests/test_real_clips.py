"""``export``, ``predict --model``, ``spectrum`` and ``explain`` on a real clip of UCF-101.

The network is the small I3D as a checkpoint holds it, untrained: its answers are arbitrary, but
they have to be the same in every form.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.checkpoints import video_checkpoint
from tests.tiny import run_here

CLIPS = (
    "ucf101_originals/UCF-101/BodyWeightSquats/v_BodyWeightSquats_g09_c07.avi",
    "ucf5/UCF-101/JugglingBalls/v_JugglingBalls_g05_c04.avi",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(video_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"))


def clip_of(real_data: Path, name: str) -> str:
    if not (real_data / name).is_file():
        pytest.skip(f"no {real_data / name}")
    return str(real_data / name)


def answered(*words: str) -> str:
    done = run_here(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def predictions(*words: str) -> dict[str, float]:
    options = ("--clips", "3", "--accelerator", "cpu", "--json")
    [video] = json.loads(answered("predict", *words, *options))
    return {row["class"]: row["score"] for row in video["predictions"]}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_network(suffix: str, checkpoint: str, real_data: Path, tmp_path: Path) -> None:
    """Checked on the clip before it is written; then the same classes in the same order."""
    clips = [clip_of(real_data, name) for name in CLIPS]
    path = tmp_path / f"model{suffix}"
    words = ("--checkpoint", checkpoint, "-o", str(path), "--input", clips[0])
    answered("export", *words, "--runs", "0", "--json")
    report = json.loads(Path(f"{path}.json").read_text())
    assert report["differences"][-1]["input"] == "given"
    assert all(0 <= found["difference"] <= 1e-4 for found in report["differences"])
    for clip in clips:
        expected = predictions("--checkpoint", checkpoint, clip)
        found = predictions("--model", str(path), clip)
        assert len(set(expected.values())) == 3  # so that their order says something
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, abs=1e-4)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in _numbers(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in _numbers(inner)]
    return [value] if isinstance(value, int | float) else []


def test_spectra(checkpoint: str, real_data: Path, tmp_path: Path) -> None:
    clips = [clip_of(real_data, name) for name in CLIPS]
    words = ("--checkpoint", checkpoint, "--accelerator", "cpu", "--json")
    values = json.loads(answered("spectrum", *words, *clips))
    assert values["inputs"] == clips
    assert all(map(math.isfinite, _numbers(values)))
    [block] = values["blocks"]
    for graph in block["graphs"]:
        positions = sum(count for _, count in graph["eigenvalues"])
        assert graph["smooth"] + graph["null"] + graph["oscillating"] == positions
        assert graph["radius"] == pytest.approx(1, abs=1e-4) and graph["symmetry_error"] < 1e-5
        assert 1 <= graph["effective_rank"] <= positions
    [unit] = block["units"]
    for stage in ("signal", "product", "output"):
        shares = unit["energies"][stage]
        total = shares["smooth"] + shares["null"] + shares["oscillating"]
        assert total == pytest.approx(1, abs=1e-4)


def test_an_explanation(checkpoint: str, real_data: Path, tmp_path: Path) -> None:
    words = ("--checkpoint", checkpoint, "--accelerator", "cpu", "-o", str(tmp_path / "out"))
    answered("explain", *words, clip_of(real_data, CLIPS[0]))
    arrays = np.load(tmp_path / "out" / "maps.npz")
    assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    assert arrays["0 frames"].std() > 10 and (tmp_path / "out" / "index.html").is_file()
