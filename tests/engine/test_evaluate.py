"""Evaluation where there are no scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from video_snl.commands.reports import Scores, write_reports
from video_snl.commands.video_scores import video_metrics
from video_snl.data.video.records import Video, VideoSet
from video_snl.errors import UserError
from video_snl.tasks.metrics import TopK

NAMES = ["Bow", "Clap", "Dive"]
NAN = float("nan")


@pytest.fixture
def videos() -> VideoSet:
    test = [Video(f"{label}.avi", label) for label in (0, 0, 1, 2)]
    return VideoSet(test, test, NAMES)


def scores_of(read: list[bool], rows: list[list[float]]) -> Scores:
    level = np.array(rows, dtype=np.float32)
    return {"label": np.array([0, 0, 1, 2]), "read": np.array(read), "clip": level, "video": level}


def test_an_unreadable_video_is_wrong_and_counted_in_its_class(
    videos: VideoSet, tmp_path: Path
) -> None:
    rows = [[0.2, 0.7, 0.1], [NAN] * 3, [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]
    scores = scores_of([True, False, True, True], rows)
    metrics = video_metrics(scores, videos, skip=False)
    assert metrics["video_top1"] == 0.25 and metrics["video_top3"] == 0.75
    assert metrics["unreadable"] == ["0.avi"] and metrics["unreadable_count"] == 1
    write_reports(tmp_path, scores, videos, metrics, "1 clip")
    with (tmp_path / "confusion_video.csv").open() as lines:
        bow, clap, dive = csv.DictReader(lines)
    assert list(bow.values()) == ["Bow", "0", "1", "0", "1"]
    assert list(bow)[4:] == ["(unreadable)"]
    assert list(clap.values()) == ["Clap", "0", "1", "0", "0"]
    assert list(dive.values()) == ["Dive", "1", "0", "0", "0"]


def test_there_must_be_something_to_evaluate(videos: VideoSet) -> None:
    scores = scores_of([False] * 4, [[NAN] * 3] * 4)
    with pytest.raises(UserError, match="none of the 4 test videos can be read, and --unreadable"):
        video_metrics(scores, videos, skip=True)
    assert video_metrics(scores, videos, skip=False)["video_top1"] == 0


def test_logits_that_are_not_finite_are_no_hit() -> None:
    logits = torch.tensor([[NAN] * 3, [0.0, 1.0, 2.0], [NAN, 5.0, 1.0]])
    label = torch.tensor([0, 2, 1])
    for k in (1, 3):
        metric = TopK(k)
        metric.update(logits, label)
        assert metric.compute() == pytest.approx(1 / 3)
