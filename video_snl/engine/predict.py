"""``video-snl predict``: what happens in these videos?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video_snl.config import ShortVideos
from video_snl.data.folders import VIDEO_SUFFIXES
from video_snl.data.loader import EvaluationDataset, collate
from video_snl.data.videos import Video
from video_snl.engine.runs import checkpoint_path
from video_snl.engine.trained import Trained, load_trained
from video_snl.errors import UserError
from video_snl.tasks.action import ActionRecognition

__all__ = ["predict"]


def predict(
    paths: list[str],
    *,
    checkpoint: str | None,
    clips: int,
    crops: int,
    top: int,
    short_videos: ShortVideos | None,
    accelerator: str,
    as_json: bool,
) -> int:
    """Print the ``top`` classes of every video; 2 when a video could not be read, else 0."""
    if clips < 1 or top < 1:
        raise UserError("--clips and --top must be at least 1.")
    videos = list(_videos(paths))
    trained = load_trained(checkpoint_path(checkpoint))
    if short_videos is not None:
        data = replace(trained.experiment.data, short_videos=short_videos)
        trained = replace(trained, experiment=replace(trained.experiment, data=data))
    task = _task(trained, crops, _device(accelerator))
    results, failures = [], 0
    for path in videos:
        try:
            results.append(_predict_one(task, path, clips, top))
        except UserError as error:
            failures += 1
            print(f"video-snl predict: error: {error}", file=sys.stderr, flush=True)
            continue
        if not as_json:
            print(_lines(results[-1]), flush=True)
    if as_json:
        print(json.dumps(results, indent=2))
    return 2 if failures else 0


def _videos(paths: list[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            if not found:
                raise UserError(
                    f"{path}: found no videos in this folder; expected files that end in "
                    f"{', '.join(sorted(VIDEO_SUFFIXES))}."
                )
            yield from found
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path}: no such file or folder.")


def _device(accelerator: str) -> torch.device:
    if accelerator == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
    if accelerator not in names:
        raise UserError(f"--accelerator {accelerator}: choose auto, cpu or gpu.")
    if names[accelerator] == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--accelerator {accelerator}: this machine has no CUDA GPU; use cpu.")
    return torch.device(names[accelerator])


def _task(trained: Trained, crops: int, device: torch.device) -> ActionRecognition:
    task = ActionRecognition(
        trained.experiment,
        trained.model,
        trained.class_names,
        mean=trained.mean,
        std=trained.std,
    )
    task.crops = crops
    return task.to(device).eval()


@torch.inference_mode()
def _predict_one(task: ActionRecognition, path: Path, clips: int, top: int) -> dict[str, Any]:
    data = task.experiment.data
    dataset = EvaluationDataset([Video(str(path), 0)], data, clips=clips)
    batch: dict[str, Tensor] = collate([dataset[0, 0]])
    batch = {name: value.to(task.device) for name, value in batch.items()}
    scores = task.predict_step(batch, 0)["video_scores"][0]
    values, classes = scores.topk(min(top, len(scores)))
    best = [
        {"class": task.class_names[index], "score": round(value, 6)}
        for value, index in zip(values.tolist(), classes.tolist(), strict=True)
    ]
    return {"video": str(path), "predictions": best}


def _lines(result: dict[str, Any]) -> str:
    width = max(len(guess["class"]) for guess in result["predictions"])
    rows = [f"  {g['class']:{width}}  {g['score']:7.2%}" for g in result["predictions"]]
    return "\n".join([result["video"], *rows])
