"""``video-snl predict``: what happens in these videos?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from video_snl.commands.windows import score_views, score_windows
from video_snl.config.task_spec import VIDEO_SNL
from video_snl.config.video import ShortVideos
from video_snl.data.video.inference import read_views
from video_snl.data.video.windows import Length, parse_length
from video_snl.data.workers.forkserver import nursery
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.render.targets import targets
from video_snl.render.video import FORMATS, captions_of, render_video
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import Trained, load_trained
from video_snl.tasks.action import ActionRecognition
from video_snl.utils.json_text import to_json
from video_snl.utils.media import named_media
from video_snl.utils.text import printable

__all__ = ["predict"]


# Clips of a whole video; a window has a single one unless asked otherwise.
_CLIPS = 10


@dataclass(frozen=True)
class _Asked:
    """What is asked about every video; ``lengths`` are those of the window and of the hop."""

    clips: int
    top: int
    lengths: tuple[Length, Length] | None


def predict(
    paths: list[str],
    *,
    checkpoint: str | None,
    model: str | None = None,
    clips: int | None,
    crops: int,
    top: int,
    window: str | None,
    hop: str | None,
    short_videos: ShortVideos | None,
    deadline: float | None,
    accelerator: str,
    as_json: bool,
    render: str | None = None,
    max_pixels: int | None = None,
) -> int:
    """Print the ``top`` classes of every video, or of windows over it.

    Args:
        model: An exported file in the place of a checkpoint.
        render: Where to write the videos with their classes drawn on them.
        max_pixels: Most pixels of a frame; default as in training.

    Returns:
        2 when a video could not be read, else 0.
    """
    lengths = _lengths(window, hop)
    asked = _Asked(clips if clips is not None else 1 if lengths else _CLIPS, top, lengths)
    if asked.clips < 1 or top < 1:
        raise UserError("--clips and --top must be at least 1.")
    if deadline is not None and not deadline > 0:
        raise UserError(f"--deadline {deadline}: give seconds, more than 0.")
    if max_pixels is not None and max_pixels < 1:
        raise UserError(f"--max_pixels {max_pixels}: give a number of pixels, 1 or more.")
    videos = named_media(paths, "videos", "video-snl predict")
    rendered = {} if render is None else targets(render, videos, suffixes=list(FORMATS))
    nursery()  # loads its modules while the network is made
    trained, device = _network(checkpoint, model, accelerator)
    trained = _reading(trained, short_videos, deadline, max_pixels)
    task = _task(trained, crops, device)
    results, failures = [], 0
    for path in videos:
        result, error = _predict_one(task, path, asked, show=not as_json)
        if result and error is None and path in rendered:
            limit = task.experiment.data.max_pixels
            error = _render(path, rendered[path], result, limit, show=not as_json)
        results += [result] if result else []
        if error is not None:
            failures += 1
            print(f"video-snl predict: error: {error}", file=sys.stderr, flush=True)
    if as_json:
        print(to_json(results, indent=2))
    return 2 if failures else 0


def _network(
    checkpoint: str | None, model: str | None, accelerator: str
) -> tuple[Trained, torch.device]:
    """The network that is asked for, and where it is to run."""
    if model is None:
        return load_trained(checkpoint_path(checkpoint)), device_of(accelerator)
    from video_snl.export.networks import find_exported

    return cast(tuple[Trained, torch.device], find_exported(model, VIDEO_SNL, accelerator))


def _lengths(window: str | None, hop: str | None) -> tuple[Length, Length] | None:
    if window is None:
        if hop is not None:
            raise UserError(f"--hop {hop} is between windows: give their length, --window 2s")
        return None
    length = parse_length("--window", window)
    return length, length if hop is None else parse_length("--hop", hop)


def _reading(
    trained: Trained,
    short_videos: ShortVideos | None,
    deadline: float | None,
    max_pixels: int | None,
) -> Trained:
    """A trained network with the options for reading the videos asked about.

    The reader and decode device of its training suited other files, and perhaps another machine.
    """
    data = trained.experiment.data
    data = replace(
        data,
        reader="auto",
        decode_device="cpu",
        short_videos=short_videos or data.short_videos,
        deadline=data.deadline if deadline is None else deadline,
        max_pixels=data.max_pixels if max_pixels is None else max_pixels,
    )
    return replace(trained, experiment=replace(trained.experiment, data=data))


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


def _predict_one(
    task: ActionRecognition, path: Path, asked: _Asked, *, show: bool
) -> tuple[dict[str, Any] | None, str | None]:
    """What is found in a video, and what went wrong: of a long video, some of both."""
    found: list[dict[str, Any]] = []
    error = None
    try:
        for part in _answers(task, path, asked):
            if show:
                print(*([] if found else [path]), _lines(part), sep="\n", flush=True)
            found.append(part)
    except UserError as failure:
        error = str(failure)
    if not found:
        return None, error
    result = {"windows": found} if asked.lengths else found[0]
    return {"video": str(path), **result} | ({"error": error} if error else {}), error


def _render(
    path: Path, target: Path, result: dict[str, Any], max_pixels: int, *, show: bool
) -> str | None:
    """Write a video with what was found in it, and note where; returns what went wrong."""
    try:
        render_video(str(path), target, captions_of(result), max_pixels)
    except UserError as failure:
        return str(failure)
    result["rendered"] = str(target)
    if show:
        print(f"  rendered, without sound: {target}", flush=True)
    return None


def _answers(task: ActionRecognition, path: Path, asked: _Asked) -> Iterator[dict[str, Any]]:
    if asked.lengths is None:
        views = read_views(str(path), task.experiment.data, asked.clips)
        yield _best(task, score_views(task, views[None], str(path))[0], asked.top)
        return
    for start, end, scores in score_windows(task, str(path), *asked.lengths, clips=asked.clips):
        times = {"start": round(start, 3), "end": round(end, 3)}
        yield times | _best(task, scores, asked.top)


def _best(task: ActionRecognition, scores: Tensor, top: int) -> dict[str, Any]:
    values, classes = scores.topk(min(top, len(scores)))
    best = [
        {"class": task.class_names[index], "score": round(value, 6)}
        for value, index in zip(values.tolist(), classes.tolist(), strict=True)
    ]
    return {"predictions": best}


def _lines(part: dict[str, Any]) -> str:
    guesses = [guess | {"class": printable(guess["class"])} for guess in part["predictions"]]
    if "start" in part:  # a window is one line
        words = [f"{guess['class']} {guess['score']:.2%}" for guess in guesses]
        return "  ".join([f"{part['start']:9.2f} s - {part['end']:9.2f} s", *words])
    width = max(len(guess["class"]) for guess in guesses)
    return "\n".join(f"  {guess['class']:{width}}  {guess['score']:7.2%}" for guess in guesses)
