"""Networks with published weights, used by name and without any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from video_snl.config.backbones import PRETRAINED, VideoBackbone
from video_snl.config.statistics import STATISTICS
from video_snl.config.task_spec import VIDEO
from video_snl.config.video import DataConfig, Experiment, ModelConfig
from video_snl.errors import UserError
from video_snl.runs.trained import Trained
from video_snl.utils.text import meant, say_once

if TYPE_CHECKING:
    from video_snl.models.weights.loading import LoadReport

__all__ = ["describe_input", "find_pretrained", "load_pretrained", "recipe_experiment"]


def find_pretrained(name: str) -> VideoBackbone:
    """Return the entry of a network with published weights.

    Raises:
        UserError: There is none of this name; the message has the nearest ones.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    raise UserError(
        f"--pretrained {name!r}: no network of this name has published weights; "
        f"{meant(name, PRETRAINED)}"
    )


def recipe_experiment(name: str) -> Experiment:
    """Return the configuration of a published network: its input, and no blocks.

    Raises:
        UserError: There is none of this name.
    """
    entry = find_pretrained(name)
    assert entry.recipe is not None
    return Experiment(
        data=DataConfig(statistics=entry.statistics, **entry.recipe.data_options()),
        model=ModelConfig(backbone=name, block="none"),
    )


_NAMED = 3  # differences that a message names


def load_pretrained(
    name: str, weights: str | None = None, *, classes: bool = True, progress: bool = True
) -> Trained[Experiment]:
    """Load a network with its published weights, on the CPU and in evaluation mode.

    The weights are fetched once into torch hub's cache
    (:mod:`video_snl.models.weights.fetching`).

    Args:
        name: Key of :data:`video_snl.config.backbones.PRETRAINED`.
        weights: File to be read in the place of the published one; its names and shapes are
            compared with the network's.
        classes: The outputs are used, and must be the published classes.
        progress: Show the progress of a download.

    Raises:
        UserError: The name is unknown, the weights cannot be had, are of another network, or tell
            other classes apart than the published ones.
    """
    from video_snl.models.video import build_model
    from video_snl.models.weights.sources import locate

    experiment, entry = recipe_experiment(name), PRETRAINED[name]
    assert entry.published is not None
    names = entry.published.class_names()
    assert names is not None
    path = locate(weights or "kinetics", name, progress=progress)
    model, report = build_model(replace(experiment.model, weights=str(path)), len(names))
    assert report is not None
    if report.format == "video-snl checkpoint":
        raise UserError(
            f"weights {str(path)!r} are of a network trained with video-snl, which is used by "
            "--checkpoint"
        )
    _check_exact(report, path, name)
    if weights is not None:
        say_once(report.summary())
    if classes:
        _check_classes(report, path, name, entry.published.trained_on, len(names))
    known = report.statistics if report.statistics != "unknown" else entry.statistics
    mean, std = STATISTICS[known]
    about = {
        "format_version": VIDEO.format_version,
        "experiment": experiment.to_dict(),
        "class_names": list(names),
        "mean": list(mean),
        "std": list(std),
        "pretrained": name,
    }
    return Trained(
        model=model.eval(),
        experiment=experiment,
        epoch=None,
        path=path,
        stored={VIDEO.entry: about, "epoch": -1},
        class_names=names,
        mean=mean,
        std=std,
    )


def _check_exact(report: LoadReport, path: Path, name: str) -> None:
    """Refuse a file that lacks a tensor of the network, which would be random, or has another's."""
    wrong = [f"{tensor} is not in the file" for tensor in report.new]
    wrong += [f"{each.name} has another shape" for each in report.shape_mismatches]
    wrong += [f"{tensor} is not in the network" for tensor in report.dropped]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise UserError(
            f"weights {str(path)!r} are not those of {name}: {'; '.join(wrong[:_NAMED])}{more}. "
            "Without a training every tensor has to be there: fetch the file again."
        )


def _check_classes(report: LoadReport, path: Path, name: str, dataset: str, count: int) -> None:
    if not report.head.startswith("taken over"):
        raise UserError(
            f"weights {str(path)!r} do not name the {count} classes of {dataset}, which {name} is "
            f"published with ({report.head}). A network that was trained with video-snl is used by "
            "--checkpoint; other weights start a training: video-snl train --model.backbone "
            f"{name} --model.weights {path}"
        )


def describe_input(name: str, clips: int, crops: int) -> str:
    """Describe in one line what a published network was trained on and what it sees."""
    entry = find_pretrained(name)
    assert entry.recipe is not None and entry.published is not None
    recipe = entry.recipe
    return (
        f"{name}, trained on {entry.published.trained_on} ({entry.published.licence}): {clips} x "
        f"{crops} views (clips x crops) of {recipe.frames} frames, {recipe.seconds:.3g} s apart, "
        f"{recipe.crop} x {recipe.crop} pixels"
    )
