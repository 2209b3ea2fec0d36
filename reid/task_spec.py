"""Re-ID as a kind of task: names, metrics and format. Without torch."""

from __future__ import annotations

from reid.config import ReidExperiment
from video_snl.config.task_spec import Card, TaskSpec

__all__ = ["REID"]

REID = TaskSpec(
    name="reid",
    command="reid",
    kind="reid",
    entry="reid",
    format_version=1,
    configuration=ReidExperiment,
    operations="reid.operations:ReidOperations",
    inputs="tracklets",
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
    card=Card(
        pipeline="feature-extraction",
        purpose="turns tracklets of pedestrians into features that are alike for one person",
        tags=("video", "person-re-identification"),
        use="extract",
        example="TRACKLETS... -o feats.parquet",
    ),
    batch=("data.identities", "data.tracklets"),
    entries={"people": list[int]},
)
