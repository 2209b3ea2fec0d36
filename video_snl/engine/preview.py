"""``train --preview``: a page with the first clips as the network sees them, before any training.

A wrong class name, a clip that misses the action, or an augmentation that is too strong is seen
here in a minute, and in an accuracy much later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from video_snl.config.task_spec import TaskSpec
from video_snl.config.video import DataConfig, Experiment
from video_snl.data.transforms.augment import OPERATIONS
from video_snl.data.video.dataset import ClipDataset
from video_snl.engine.train import make_task
from video_snl.errors import UserError
from video_snl.render.film_strips import data_uri, film_strip
from video_snl.render.page import flat_settings, shortened_name, write_page
from video_snl.tasks.action import ActionRecognition
from video_snl.tasks.datamodule import ClipDataModule
from video_snl.utils.counts import counts
from video_snl.utils.progress import counted

__all__ = ["write_preview"]

_CLIPS = 24
_FRAMES = 8  # of a clip that are shown
_FRAME = 128  # pixels of their height


def write_preview(experiment: Experiment, spec: TaskSpec, path: Path) -> int:
    """Write the page of the first training clips, in the order of the first epoch.

    Args:
        experiment: The configuration.
        spec: Video classification.
        path: The page.

    Returns:
        The exit code.

    Raises:
        UserError: The options, the data or the weights do not go together, or clips cannot be read.
    """
    if path.is_dir():
        raise UserError(
            f"--preview {path} is a folder: name the page to write, such as {path}.html."
        )
    operations = spec.make()
    operations.check_options(experiment)
    experiment, videos = operations.load_data(experiment)
    operations.check_data(experiment, videos)
    task = make_task(experiment, videos, spec)
    assert isinstance(task, ActionRecognition)
    module = ClipDataModule(experiment, videos)
    try:
        clips = list(_clips(task, module))
    finally:
        module.close()
    count = (
        f"{counts(len(videos.train), 'training video')}, {counts(len(videos.test), 'test video')}"
    )
    values = {
        "title": "The first clips of the training",
        "facts": f"{count}, {counts(len(videos.class_names), 'class', 'classes')}. "
        f"{_input_line(experiment.data)}",
        "notes": list(_notes(experiment)),
        "clips": clips,
        "settings": list(flat_settings({"data": vars(experiment.data)})),
    }
    write_page(path, "video_snl.engine", "preview.html", values)
    print(f"first clips: {path}")
    return 0


def _clips(task: ActionRecognition, module: ClipDataModule) -> Iterator[dict[str, Any]]:
    module.setup("fit")
    loader: Any = module.train_dataloader()
    dataset = loader.dataset
    assert isinstance(dataset, ClipDataset)
    keys = list(loader.sampler)[:_CLIPS]
    batches, shown = iter(loader), 0
    steps = -(-len(keys) // loader.batch_size)
    for _ in counted(range(steps), steps, "preview"):
        batch = next(batches)
        images = _images(task, task.training_clips(batch))
        for row in range(len(images)):
            if shown == len(keys):
                return
            read = int(batch["index"][row])
            yield _clip(task, dataset, keys[shown], read, images[row], _row(batch, row))
            shown += 1


def _images(task: ActionRecognition, clips: Tensor) -> np.ndarray:
    """Turn normalised clips (B, 3, T, h, w) into images again, uint8 (B, T, h, w, 3)."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1, 1) for x in (task.mean, task.std))
    values = (clips * std + mean).mul(255).round().clamp(0, 255)
    return values.byte().permute(0, 2, 3, 4, 1).numpy()


def _row(batch: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: value[row] for name, value in batch.items() if len(value) == len(batch["label"])}


def _clip(
    task: ActionRecognition,
    dataset: ClipDataset,
    key: tuple[int, ...],
    read: int,
    images: np.ndarray,
    sample: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Return what the page says of a clip."""
    frames, rate = dataset.frames_of(key, read)  # type: ignore[arg-type]
    strip = film_strip(
        [Image.fromarray(image) for image in images],
        shown=_FRAMES,
        width=round(_FRAME * images.shape[2] / images.shape[1]),
        height=_FRAME,
    )
    if rate is None:
        span = f"frames {frames[0]} to {frames[-1]}"
    else:
        span = f"{frames[0] / rate:.2f} s to {frames[-1] / rate:.2f} s"
    path = dataset.items[read].path
    return {
        "label": task.class_names[int(sample["label"])],
        "name": shortened_name(path),
        "path": path,
        "span": f"{span} ({', '.join(map(str, frames))})",
        "augmented": ", ".join(_changes(sample)) or "unchanged",
        "stands_in": read != key[1],
        "strip": data_uri(strip),
        "width": strip.width,
        "height": strip.height,
    }


def _changes(sample: Mapping[str, Tensor]) -> Iterator[str]:
    """Say what was drawn for a clip."""
    down, right = (round(float(x), 2) for x in sample["offset"])
    yield f"crop at {down:.0%} down, {right:.0%} right of what is left over"
    if "scale" in sample:
        height, width = sample["scale"].tolist()
        yield f"sides {height:.3g} x {width:.3g} of the shorter one"
    if bool(sample["flip"]):
        yield "flipped left to right"
    if "jitter" in sample:
        *_, brightness, contrast, saturation, hue = sample["jitter"].tolist()
        yield f"brightness x {brightness:.2f}, contrast x {contrast:.2f}"
        yield f"saturation x {saturation:.2f}, hue {hue:+.2f}"
    for number, sign in sample.get("operations", torch.empty(0, 2)).tolist():
        yield f"{list(OPERATIONS)[int(number)]} {'+' if sign > 0 else '-'}"


def _input_line(data: DataConfig) -> str:
    apart = (
        f"{data.stride_seconds:g} s" if data.stride_seconds else counts(data.frame_stride, "frame")
    )
    how = "one of each part of the video" if data.sampling == "uniform" else f"{apart} apart"
    size = f"{data.crop} x {data.crop} pixels"
    return f"A clip has {counts(data.clip_frames, 'frame')}, {how}, of {size}."


def _notes(experiment: Experiment) -> Iterator[str]:
    optimizer = experiment.optimizer
    if optimizer.mixup or optimizer.cutmix:
        yield "In training, mixup or CutMix mixes pairs of these clips."
    if optimizer.cached_versions:
        yield (
            f"Training takes turns over {counts(optimizer.cached_versions, 'version')} of each "
            "clip (optimizer.cached_versions), which are drawn in the same way."
        )
