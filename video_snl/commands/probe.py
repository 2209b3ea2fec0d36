"""A linear probe: logistic regression on the features of a network that is not trained further."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from video_snl.commands.evaluate import Unreadable
from video_snl.commands.intervals import wilson
from video_snl.commands.reports import Scores, write_reports
from video_snl.commands.video_scores import video_metrics
from video_snl.config.task_spec import shown_tops
from video_snl.data.video.division import division_facts
from video_snl.data.video.file_lists import LabelledVideo
from video_snl.data.video.labelled import Source, labelled_set
from video_snl.data.video.records import VideoSet
from video_snl.errors import UserError
from video_snl.runs.features import FeatureTable, read_features
from video_snl.utils.counts import counts, views_named
from video_snl.utils.files import check_folder
from video_snl.utils.text import escaped, say_once

__all__ = ["Probe", "divided", "fit_probe", "probe_file"]

_STEPS = 5000  # of the solver, at most
# Settings of a file of features that the reports of its probe name.
_ABOUT = ("network", "weights", "sha256", "clips", "crops", "per", "unreadable")
_FAILED = "unreadable_labels"
_HOW = {
    "labels": "write it again from a folder of class folders, or from a CSV file with the columns "
    "path,label,split by --data.root",
    "split": "write it again beside the videos with --probe, which divides them, or from a folder "
    "with train/ and test/ or a CSV file with the column split by --data.root (the features in it "
    "are kept)",
}


@dataclass(frozen=True)
class Probe:
    """Options of a probe.

    Attributes:
        folder: Folder of the reports.
        strength: Inverse strength of the L2 penalty, scikit-learn's ``C``.
        unreadable: Test videos that could not be read count as wrong, or are left out.

    Raises:
        UserError: The strength is not positive.
    """

    folder: Path
    strength: float = 0.01
    unreadable: Unreadable = "wrong"

    def __post_init__(self) -> None:
        if not 0 < self.strength < float("inf"):
            raise UserError(f"--probe_c {self.strength}: give a number above 0, such as 0.01")


def divided(videos: Sequence[LabelledVideo], given: str) -> VideoSet:
    """Return labelled videos as training and test list.

    Videos that are in no part are divided by their recordings, as a training divides them, where
    none is in one.

    Args:
        videos: The videos, with the parts that they are in.
        given: What gives the parts, or else the recordings, in words.

    Raises:
        UserError: There are no labels, one class alone, or no test videos.
    """
    labelled = [video for video in videos if video.label is not None]
    if not labelled:
        raise UserError(
            "--probe needs labels, and no video has one: give a folder of class folders, or a "
            "dataset by --data.root (docs/features.md)"
        )
    if len(labelled) < len(videos):
        without = next(video.path for video in videos if video.label is None)
        rest = counts(len(videos) - len(labelled), "video")
        say_once(f"--probe leaves out {rest} without a label, such as {without}")
    classes = {video.label for video in labelled}
    if len(classes) == 1:
        raise UserError(f"--probe tells classes apart, and there is one alone: {classes.pop()}")
    found: dict[str, list[tuple[str, str]]] = {}
    for video in labelled:
        assert video.label is not None
        found.setdefault(video.part or "all", []).append((video.path, video.label))
    if "all" in found and len(found) > 1:
        say_once(f"--probe leaves out {counts(len(found.pop('all')), 'video')} in neither part")
    elif "all" in found:
        say_once("--probe: no part of the videos is for testing; they are divided as train does it")
    elif len(found) == 1:
        [only] = found
        other = "test" if only == "train" else "train"
        raise UserError(
            f"--probe needs train and test videos, and all are for {only}: add a folder {other}/, "
            "or rows of this split"
        )
    groups = {video.path: video.group for video in labelled if video.group is not None}
    source = Source("--probe", Path.cwd(), "group", given=given, groups=groups)
    return labelled_set(found, source, None)


def probe_file(path: Path, probe: Probe) -> int:
    """Fit a probe on a file of features alone, by the labels and the split in it.

    Args:
        path: The file.
        probe: Options.

    Returns:
        0.

    Raises:
        UserError: The file is damaged, or lacks what a probe needs, or as for :func:`fit_probe`.
    """
    check_folder("--probe_output", str(probe.folder))
    table = read_features(path, "make it again with video-snl features")
    missing = [name for name in _ABOUT if name not in table.about]
    if missing:
        raise UserError(
            f"{path} does not say its {missing[0]}: give a file that video-snl features wrote"
        )
    if not np.isfinite(table.features).all():
        raise UserError(f"{path} holds features that are not finite numbers: make it again")
    videos = divided(_listed(table, path), f"the column split of {path}")
    failed = table.about["unreadable"]
    if failed and _FAILED not in table.about:
        say_once(
            f"--probe leaves out {counts(len(failed), 'video')} that could not be read: {path} "
            "does not hold their labels"
        )
    print(fit_probe(table, videos, probe, file=str(path)))
    print(f"reports: {probe.folder}")
    return 0


def _listed(table: FeatureTable, path: Path) -> list[LabelledVideo]:
    """Return the videos of a file of features, also those that could not be read.

    Raises:
        UserError: None has a label, none is in a part, or the file contradicts itself.
    """
    rows = zip(table.paths, table.labels, table.parts, strict=True)
    found = {name: LabelledVideo(name, label, part) for name, label, part in rows}
    for what, given in (("labels", table.labels), ("split", table.parts)):
        if not any(given):
            raise UserError(f"{path} holds no {what}, which --probe needs of a file: {_HOW[what]}")
    failed = zip(table.about["unreadable"], table.about.get(_FAILED, []), strict=False)
    for name, (label, part) in failed:
        if name in found:
            raise UserError(
                f"{path} says that {name} could not be read, and holds features of it: make it "
                "again with video-snl features"
            )
        found[name] = LabelledVideo(name, label, part)
    return list(found.values())


def fit_probe(
    table: FeatureTable, videos: VideoSet, probe: Probe, *, file: str, dataset: str | None = None
) -> str:
    """Fit a probe on the training videos, and report its accuracy on the test videos.

    It is scikit-learn's ``StandardScaler`` and ``LogisticRegression``, fitted on all vectors of the
    training videos; the probabilities of a test video are the mean over its vectors.

    Args:
        table: Features of the videos.
        videos: Training and test list.
        probe: Options.
        file: File of the features, for the report.
        dataset: Name of the dataset, for the report.

    Returns:
        The accuracies as text.

    Raises:
        UserError: No training video, or those of one class alone, could be read.
    """
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(table.paths):
        rows.setdefault(path, []).append(row)
    own = [(rows.get(escaped(video.path), []), video.label) for video in videos.train]
    chosen = [row for numbers, _ in own for row in numbers]
    labels = np.array([label for numbers, label in own for _ in numbers], dtype=int)
    if len(set(labels.tolist())) < 2:
        raise UserError("--probe: fewer than two classes have training videos that could be read")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=probe.strength, max_iter=_STEPS))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(table.features[chosen].astype(np.float64), labels)
    if any(issubclass(each.category, ConvergenceWarning) for each in said):
        say_once(f"--probe has not converged in {_STEPS} steps: lower --probe_c")
    scores = _scores(model, table, rows, videos)
    read = int(sum(bool(numbers) for numbers, _ in own))
    about = table.about
    views = views_named(about["clips"], about["crops"])
    skip = probe.unreadable == "skip"
    metrics = video_metrics(scores, videos, skip=skip, levels=("video",))
    count = metrics["videos"]
    low, high = wilson(round(metrics["video_top1"] * count), count)
    metrics |= {
        "video_top1_interval": [low, high],
        "features": file,
        "network": about["network"],
        "weights": about["weights"],
        "sha256": about["sha256"],
        "views": views,
        "per": about["per"],
        "dataset": dataset,
        "division": division_facts(videos),
        "probe": {
            "classifier": "StandardScaler, LogisticRegression",
            "C": probe.strength,
            "train_videos": read,
            "train_vectors": len(chosen),
        },
    }
    write_reports(probe.folder, scores, videos, metrics, views, levels=("video",))
    return _text(metrics, dataset)


def _scores(
    model: Any, table: FeatureTable, rows: dict[str, list[int]], videos: VideoSet
) -> Scores:
    """Return the class probabilities of the test videos; NaN for those that could not be read."""
    scores = np.full((len(videos.test), len(videos.class_names)), np.nan)
    for index, video in enumerate(videos.test):
        own = rows.get(escaped(video.path))
        if own:
            found = np.zeros(scores.shape[1])
            found[model.classes_] = model.predict_proba(table.features[own].astype(float)).mean(0)
            scores[index] = found
    return {
        "label": np.array([video.label for video in videos.test]),
        "read": np.isfinite(scores).all(1),
        "video": scores,
    }


def _text(metrics: dict[str, Any], dataset: str | None) -> str:
    fitted, tops = metrics["probe"], shown_tops(metrics["classes"])
    low, high = metrics["video_top1_interval"]
    shares = [f"top-{n} {metrics[f'video_top{n}']:.2%}" for n in tops]
    shares[0] += f" (95 % interval {low:.1%} to {high:.1%})"
    where = "" if dataset is None else f" ({dataset})"
    lines = [
        f"probe: logistic regression (C = {fitted['C']:g}) on standardised features, fitted on "
        f"{counts(fitted['train_vectors'], 'vector')} of {counts(fitted['train_videos'], 'video')}",
        f"{counts(metrics['videos'], 'test video')} of {counts(metrics['classes'], 'class')}"
        f"{where}, {metrics['views']}: {', '.join(shares)}",
    ]
    if metrics["unreadable"]:
        how = {"wrong": "count as wrong", "skipped": "are left out"}[metrics["unreadable_are"]]
        lines.append(f"test videos that could not be read {how}: {metrics['unreadable_count']}")
    return "\n".join(lines)
