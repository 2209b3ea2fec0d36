"""``reid`` as the engine of ``video-snl`` sees it. Without torch."""

from __future__ import annotations

from reid.config import ReidExperiment
from video_snl.config.task_spec import Program

__all__ = ["REID"]

REID = Program(
    name="reid",
    kind="reid",
    entry="reid",
    format_version=1,
    experiment=ReidExperiment.from_dict,
    monitor="val/mAP",
    line=(("train/top1", "train top-1"), ("val/rank1", "val rank-1"), ("val/mAP", "val mAP")),
    summary=(("val/rank1", "rank-1"), ("val/mAP", "mAP")),
    losses=(
        ("train/loss", "total"),
        ("train/cross_entropy", "cross-entropy"),
        ("train/triplet", "triplet"),
    ),
    shares=(
        ("train/top1", "training, top-1 of the classifier"),
        ("val/rank1", "query list, rank 1"),
        ("val/mAP", "query list, mAP"),
    ),
    axes=("training loss", "share (%)"),
    batch=("data.identities", "data.tracklets"),
    entries={"people": list[int]},
)
