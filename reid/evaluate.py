"""``reid evaluate``: rank the gallery for every query, print the figures, write the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reid.config import ReidDataConfig, ReidExperiment
from reid.data.datasets.catalog import DATASETS, load_dataset
from reid.data.tracklet import JUNK, ReidData, Tracklet, own_entries
from reid.metrics.distances import Metric, pairwise_distances
from reid.metrics.ranking import (
    QUERIES_IN_GALLERY,
    RANKS,
    Cameras,
    Protocol,
    Ranking,
    count_as_wrong,
    evaluate_ranking,
    official_gallery,
    own_pairs,
    with_a_match,
)
from reid.metrics.rerank import MEMORY, check_memory, rerank
from reid.operations import check_matches
from reid.options import check_data, check_short_tracklets
from reid.pretrained import PRETRAINED, describe_input
from reid.report.evaluation import Evaluation
from reid.report.figures import Result, json_of, summary_text, text_of
from reid.report.report import write_report
from reid.retrieval.encode import Encoded, encode, table_of
from reid.retrieval.features import FeatureTable
from reid.runs import check_together, find_checkpoints, newest_trained, report_folders
from reid.task_spec import REID
from reid.trained import TrainedReid, check_identities, load_trained, pretrained
from video_snl.data.loading.quarantine import Quarantine
from video_snl.data.workers.forkserver import start_forkserver
from video_snl.engine.fit import is_first_process, tell
from video_snl.engine.resume import Asked
from video_snl.engine.train import train
from video_snl.engine.trainer import device_of
from video_snl.errors import UserError
from video_snl.runs.run import checkpoint_path
from video_snl.runs.trained import check_same_network
from video_snl.utils.counts import counts
from video_snl.utils.files import check_folder
from video_snl.utils.json_text import parse_json

__all__ = ["Options", "evaluate", "evaluate_trained", "rank_lists"]

ProtocolChoice = Literal["all", "both", "common", "official", "queries-kept"]
_SEVERAL: dict[str, tuple[Protocol, ...]] = {
    "all": ("common", "official", "queries-kept"),
    "both": ("common", "official"),
}


@dataclass(frozen=True)
class Options:
    """Options of measuring a network; see ``reid evaluate --help``."""

    test_frames: int | None = None
    metric: Metric = "cosine"
    rerank: bool = False
    rerank_memory: int = MEMORY
    protocol: ProtocolChoice | None = None
    max_rank: int = 20

    def protocols(self, dataset: str) -> list[Protocol]:
        """Return those that are asked for, the main one first."""
        asked = self.protocol or ("all" if DATASETS[dataset].all_protocols else "common")
        if asked == "all" or asked == "both":
            return list(_SEVERAL[asked])
        return [asked]


def evaluate(
    experiment: ReidExperiment,
    checkpoints: list[str] | None,
    options: Options,
    *,
    config_name: str | None,
    as_json: bool,
    report: str | None,
    published: str | None = None,
    weights: str | None = None,
) -> int:
    """Evaluate checkpoints on the dataset, print the figures, write the reports.

    Several checkpoints of one network are each evaluated on their own split.

    Args:
        published: Name of a published network in the place of checkpoints.
        weights: File of its weights.

    Raises:
        UserError: As :func:`evaluate_trained` and :func:`reid.runs.check_together`.
    """
    check_data(experiment.data)
    if report is not None:
        check_folder("--report", report)
    network = None
    if published is not None:
        network = pretrained(published, weights)
        tell(describe_input(published))
        paths = [network.path]
        folders = [Path(report or _published_folder(experiment, network) / "report")]
    else:
        paths = _found_or_trained(experiment, checkpoints, config_name)
        folders = report_folders(paths, report)
    several = len(paths) > 1
    if several:
        check_together(paths)
    results: list[Result] = []
    for folder in folders:
        check_folder("--report", str(folder))
    for path, folder in zip(paths, folders, strict=True):
        trained = network or load_trained(path)
        own = _of_its_split(experiment, trained) if several else experiment
        evaluation = evaluate_trained(trained, own, options, folder)
        results.append(Result(evaluation, own.data.split, write_report(folder, evaluation)))
        if not as_json:
            print(text_of(results[-1]), flush=True)
    if as_json:
        print(json_of(results))
    elif several:
        print(summary_text(results))
    return 0


def evaluate_trained(
    trained: TrainedReid, experiment: ReidExperiment, options: Options, folder: Path | None = None
) -> Evaluation:
    """Features of both lists, distances, and the figures by every protocol asked for.

    Args:
        folder: Folder of the report, for its ``quarantine.jsonl``.

    Raises:
        UserError: The options of another network, people it was trained on, no query with a match,
            too many tracklets that cannot be read.
    """
    check_same_network(experiment.model, trained.experiment.model, trained.path)
    rule = trained.experiment.data.short_tracklets
    if experiment.data.short_tracklets is None:  # a block of a user's own, trained just now
        experiment = replace(experiment, data=replace(experiment.data, short_tracklets=rule))
    check_short_tracklets(experiment)
    config = experiment.data
    if config.short_tracklets != rule:
        tell(
            f"{trained.said} was trained with data.short_tracklets={rule}, and is measured with "
            f"{config.short_tracklets}, as asked"
        )
    data = load_dataset(config.dataset, config.root, config.split)
    check_identities(trained, experiment, data)
    check_matches(data, config.cameras)
    if options.rerank:
        sizes = len(data.query), len(data.gallery)
        check_memory(*sizes, torch.empty(0, trained.model.feature_dim), options.rerank_memory)
    if config.num_workers:
        start_forkserver()
    lists = {"query": data.query, "gallery": [*data.gallery, *data.junk]}
    file = None if folder is None else folder / "quarantine.jsonl"
    quarantine = Quarantine.fresh(file, config.max_failures, "tracklets")
    encoded = {
        part: encode(
            trained.model,
            tracklets,
            config,
            test_frames=options.test_frames,
            device=device_of(experiment.trainer.accelerator),
            channels_last=experiment.trainer.channels_last,
            quarantine=quarantine,
            what=f"{part} tracklets read",
        )
        for part, tracklets in lists.items()
    }
    return _evaluation(trained, experiment, options, data, lists, encoded)


def rank_lists(
    query: FeatureTable,
    gallery: FeatureTable,
    lost: Sequence[Tracklet],
    protocols: Sequence[Protocol],
    *,
    metric: Metric,
    max_rank: int,
    reranked: bool,
    rerank_memory: int = MEMORY,
    cameras: Cameras = "cross",
    own: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, dict[str, Ranking]]:
    """Evaluate by every protocol, and by re-ranked distances if asked for.

    Args:
        query, gallery: Encoded lists; junk may be in the gallery, which no protocol counts.
        lost: Queries that could not be read; they count as wrong.
        max_rank: Length of the CMC curves, 20 where that is more: those ranks are printed.
        reranked: k-reciprocal re-ranking of queries and gallery without junk, by the common
            protocol.
        rerank_memory: Bytes that re-ranking may take.
        cameras: ``cross`` or ``ignore``.
        own: Pairs (query, gallery row) that are the same tracklet.

    Returns:
        Distances of Q queries to G gallery tracklets, (Q, G), and the metrics by protocol.
    """
    features = [torch.from_numpy(table.features) for table in (query, gallery)]
    max_rank = max(max_rank, *RANKS)
    distances = pairwise_distances(features[0], features[1], metric)
    asked, searched = _labels(query), _labels(gallery)
    unread = _Labels(
        torch.tensor([tracklet.person_id for tracklet in lost], dtype=torch.int64),
        torch.tensor([tracklet.camera_id for tracklet in lost], dtype=torch.int64),
    )
    searched = replace(searched, own=torch.tensor(own, dtype=torch.int64).view(-1, 2))
    rankings: dict[str, Ranking] = {}
    for protocol in protocols:
        matrix, where = distances, searched
        if protocol in QUERIES_IN_GALLERY:
            within = pairwise_distances(features[0], features[0], metric)
            matrix, *others = official_gallery(
                distances, within, asked.ids, searched.ids, asked.cameras, searched.cameras
            )
            pairs = own_pairs(len(asked.ids), len(searched.ids))
            where = _Labels(others[0], others[1], torch.cat([searched.own, pairs]))
        rankings[protocol] = _ranking(matrix, asked, where, unread, protocol, max_rank, cameras)
    if reranked:
        kept = searched.ids != JUNK
        matrix = rerank(features[0], features[1][kept], metric=metric, memory=rerank_memory)
        place = kept.cumsum(0) - 1
        pairs = torch.stack([searched.own[:, 0], place[searched.own[:, 1]]], 1)
        where = _Labels(searched.ids[kept], searched.cameras[kept], pairs)
        rankings["common, re-ranked"] = _ranking(
            matrix, asked, where, unread, "common", max_rank, cameras
        )
    return distances, rankings


def _evaluation(
    trained: TrainedReid,
    experiment: ReidExperiment,
    options: Options,
    data: ReidData,
    lists: dict[str, list[Tracklet]],
    encoded: dict[str, Encoded],
) -> Evaluation:
    tables = {part: table_of(encoded[part], lists[part], trained) for part in lists}
    lost = [data.query[row] for row in np.flatnonzero(~encoded["query"].read)]
    for part, table in tables.items():
        if not table.names:
            raise UserError(
                f"no tracklet of the {part} can be read; look at --data.root, and at reid check"
            )
    rule = experiment.data.cameras
    read = {
        part: [lists[part][row] for row in np.flatnonzero(encoded[part].read)] for part in lists
    }
    # Under the query's own camera nothing counts, unless cameras are ignored.
    own = own_entries(read["query"], read["gallery"]) if rule == "ignore" else []
    distances, rankings = rank_lists(
        tables["query"],
        tables["gallery"],
        lost,
        options.protocols(experiment.data.dataset),
        metric=options.metric,
        max_rank=options.max_rank,
        reranked=options.rerank,
        rerank_memory=options.rerank_memory,
        cameras=rule,
        own=own,
    )
    return Evaluation(
        data=data,
        query=tables["query"],
        gallery=tables["gallery"],
        distances=distances,
        rankings=rankings,
        settings=_settings(trained, experiment, options),
        max_rank=options.max_rank,
        cameras=rule,
        own=own,
    )


@dataclass(frozen=True)
class _Labels:
    """Identities and cameras of a list, each (N,); of a gallery its pairs ``own`` (M, 2), too."""

    ids: Tensor
    cameras: Tensor
    own: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))


def _ranking(
    distances: Tensor,
    asked: _Labels,
    searched: _Labels,
    unread: _Labels,
    protocol: Protocol,
    max_rank: int,
    cameras: Cameras,
) -> Ranking:
    ranking = evaluate_ranking(
        distances,
        asked.ids,
        searched.ids,
        asked.cameras,
        searched.cameras,
        protocol=protocol,
        max_rank=max_rank,
        cameras=cameras,
        own=searched.own,
    )
    matched = with_a_match(unread.ids, searched.ids, unread.cameras, searched.cameras, cameras)
    return count_as_wrong(ranking, int(matched.sum()), len(matched))


def _labels(table: FeatureTable) -> _Labels:
    return _Labels(
        torch.as_tensor(table.person_ids).long(), torch.as_tensor(table.camera_ids).long()
    )


def _settings(trained: TrainedReid, experiment: ReidExperiment, options: Options) -> dict[str, Any]:
    data, frames = experiment.data, options.test_frames
    whole = "all frames" if data.frames == 1 else f"all frames, in chunks of {data.frames}"
    source: dict[str, Any] = {}
    if trained.pretrained is not None:
        source = {
            "pretrained": trained.pretrained,
            "trained_on": PRETRAINED[trained.pretrained].trained_on,
            "weights": str(trained.path),
            "weights_sha256": trained.digest,
        }
    return {
        **source,
        "checkpoint": str(trained.path),
        "checkpoint_sha256": trained.digest,
        "epoch": trained.finished_epochs,
        "root": _root(data),
        "split": data.split,
        "frames": whole if frames is None else counts(frames, "evenly spaced frame"),
        "short_tracklets": data.short_tracklets,
        "frame_size": f"{data.height} x {data.width}",
        **({"resize": data.resize} if data.resize != "torch" else {}),
        "metric": options.metric,
        "cameras": data.cameras,
        "seed": trained.experiment.trainer.seed,
        "model": vars(trained.experiment.model),
    }


def _found_or_trained(
    experiment: ReidExperiment, named: list[str] | None, config_name: str | None
) -> list[Path]:
    dataset, output = experiment.data.dataset, experiment.trainer.output
    found = find_checkpoints(named, output, dataset)
    if found:
        return found
    if dataset != "sample":
        raise UserError(
            f"found no run of dataset {dataset} with a checkpoint below {output}/; train one "
            f"(reid train --dataset {dataset}), or name a --checkpoint."
        )
    tell(
        f"found no run of the sample dataset with a checkpoint below {output}/: training one first"
    )
    with redirect_stdout(sys.stderr):  # what is printed is the evaluation
        code = train(experiment, REID, config_name=config_name, asked=Asked())
    # The other processes of a training on several devices repeat the command line.
    if code != 0 or not is_first_process():
        raise SystemExit(code)
    run = newest_trained(Path(output), dataset)
    assert run is not None
    return [checkpoint_path(str(run.folder), run.spec)]


def _published_folder(experiment: ReidExperiment, network: TrainedReid) -> Path:
    """Return the folder of a published network's report: a name for each dataset and split.

    Where the report of another root or of other weights has that name, a number is added.
    """
    data, root = experiment.data, _root(experiment.data)
    own = Path(root).name if data.dataset == "folder" and root else data.dataset
    split = f"-split{data.split}" if data.split else ""
    name, number = f"{network.pretrained}-{own}{split}", 1
    while True:
        end = "" if number == 1 else f"-{number}"
        folder = Path(experiment.trainer.output) / f"{name}{end}"
        if _reported(folder / "report") in (None, (root, network.digest)):
            return folder
        number += 1


def _root(data: ReidDataConfig) -> str | None:
    return None if data.root is None else str(Path(data.root).expanduser().resolve())


def _reported(folder: Path) -> tuple[object, object] | None:
    """Return the root and the hash of the weights of a report; None where there is none."""
    if not folder.exists():
        return None
    try:
        settings = parse_json((folder / "metrics.json").read_text(encoding="utf-8"))["settings"]
        return settings.get("root"), settings.get("weights_sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""  # something else is there


def _of_its_split(experiment: ReidExperiment, trained: TrainedReid) -> ReidExperiment:
    stored = trained.experiment
    if stored.data.dataset != experiment.data.dataset:
        raise UserError(
            f"{trained.path} was trained on {stored.data.dataset}, not on --dataset "
            f"{experiment.data.dataset}: several checkpoints are measured on their own splits."
        )
    return replace(experiment, data=replace(experiment.data, split=stored.data.split))
