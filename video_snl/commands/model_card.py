"""The card of a published network: a README.md with the header that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.task_spec import TaskSpec, shown_tops
from video_snl.errors import UserError
from video_snl.runs.published import CONFIG, WEIGHTS
from video_snl.utils.counts import counts
from video_snl.utils.json_text import parse_json

__all__ = ["card", "found_metrics", "recorded_version"]

_SHARE = re.compile(r"(^|[/_.])(top\d+|rank\d+|mAP|mINP|mIoU|mAcc|aAcc)$")
_METRIC_TYPES = {"mAP": "mean_average_precision", "mIoU": "mean_iou", "mINP": "mINP"}
# Where commands put the figures of an evaluation, below the folder of a run.
_REPORTS = ("evaluation/metrics.json", "report/metrics.json")

Metrics = Sequence[tuple[str, float]]


def card(
    path: Path,
    facts: Mapping[str, Any],
    model: nn.Module,
    spec: TaskSpec,
    *,
    name: str,
    licence: str,
) -> str:
    """Return the text of README.md.

    Args:
        path: The checkpoint; figures are taken from the run it is in, where they are of its epoch.
        facts: Of :func:`~video_snl.runs.published.facts_of`.
    """
    source, metrics = found_metrics(path, int(facts["epoch"]) + 1)
    header = yaml.safe_dump(
        _header(facts, spec, metrics, source, name=name, licence=licence),
        sort_keys=False,
        allow_unicode=True,
    )
    parts = [
        f"---\n{header}---\n\n# {name}\n",
        f"`{name}` is a network that {spec.card.purpose}: {_network(facts, model)}\n",
        _figures(metrics, source),
        _use(spec),
        _limits(facts, licence),
    ]
    return "\n".join(part for part in parts if part)


def found_metrics(path: Path, epoch: int) -> tuple[str, Metrics]:
    """Return the figures of a checkpoint, as shares, and what they were measured by.

    Those of an evaluation beside it on the data set it was trained on, else those that its run
    recorded at the end of that epoch. None where both are of another epoch.

    Raises:
        UserError: A file of figures is damaged.
    """
    run = _run_of(path)
    for report in _REPORTS:
        values = _json(run / report)
        about = values.get("settings", values)
        if values and about.get("epoch") == epoch and _of_its_data(values, run):
            by = f"evaluate ({_measured_on(values)})"
            views = values.get("views")
            return by, [
                (_labelled(key, views), value)
                for key, value in _shares(values)
                if "per_class" not in key and _says_something(key, values.get("classes"))
            ]
    for row in _json(run / "run.json").get("metrics", {}).values():
        if row.get("epoch") == epoch:
            rows = {key: value for key, value in row.items() if key.startswith("val/")}
            return "the validation of its training", list(_shares(rows))
    return "", []


def _of_its_data(values: Mapping[str, Any], run: Path) -> bool:
    """Tell if figures are of the data set and split that a run was trained on, if both say."""
    trained = _json(run / "run.json").get("config", {}).get("data", {})
    nested = values.get("data", {})
    measured = {
        "dataset": values.get("dataset", nested.get("name")),
        "split": values.get("split"),
    }
    return all(
        trained.get(key) is None or value is None or trained[key] == value
        for key, value in measured.items()
    )


def _measured_on(values: Mapping[str, Any]) -> str:
    """Say which part of its dataset an evaluation is about."""
    dataset = values.get("dataset", values.get("data", {}).get("name", "its dataset"))
    split = values.get("settings", values).get("split")
    videos = values.get("videos")
    parts = [str(dataset), *([] if split is None else [f"split {split}"])]
    return ", ".join([*parts, *([] if videos is None else [counts(videos, "test video")])])


def _labelled(key: str, views: str | None) -> str:
    """Say of a figure of a clip or of a video what it was measured on."""
    if views is None:
        return key
    return f"{key} ({'centre crop of the centre clip' if key.startswith('clip_') else views})"


def _says_something(key: str, classes: int | None) -> bool:
    """Tell whether a figure is shown: a top-k accuracy of few classes is not."""
    found = re.search(r"top(\d+)$", key)
    return found is None or int(found[1]) in shown_tops(classes)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): evaluate the checkpoint again, which writes it anew."
        ) from error


def _shares(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _shares(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and _SHARE.search(f"{prefix}{key}"):
            yield f"{prefix}{key}".removeprefix("val/").removeprefix("rankings."), float(value)


def _header(
    facts: Mapping[str, Any],
    spec: TaskSpec,
    metrics: Metrics,
    source: str,
    *,
    name: str,
    licence: str,
) -> dict[str, Any]:
    data, network = facts["experiment"]["data"], facts["experiment"]["model"]
    tags = dict.fromkeys(
        [*spec.card.tags, "nonlocal", "pytorch", network["backbone"], network["block"]]
    )
    header: dict[str, Any] = {
        "license": licence,
        "library_name": "video-snl",
        "pipeline_tag": spec.card.pipeline,
        "tags": [tag for tag in tags if tag != "none"],
        "datasets": [data["dataset"]],
    }
    if not metrics:
        return header
    values = [
        {"type": _metric_type(key), "name": f"{key}, {source}", "value": round(value, 6)}
        for key, value in metrics
    ]
    result = {
        "task": {"type": spec.card.pipeline},
        "dataset": {"name": data["dataset"], "type": data["dataset"]},
        "metrics": values,
    }
    types = list(dict.fromkeys(value["type"] for value in values))
    return header | {"metrics": types, "model-index": [{"name": name, "results": [result]}]}


def _metric_type(key: str) -> str:
    last = re.split(r"[/_.]", key)[-1]
    return _METRIC_TYPES.get(last, "accuracy")


def _network(facts: Mapping[str, Any], model: nn.Module) -> str:
    network = facts["experiment"]["model"]
    trained = sum(parameter.numel() for parameter in model.parameters())
    places = ", ".join(inserted_blocks(model))
    block = "no block" if network["block"] == "none" else f"block `{network['block']}`"
    where = f" at {places}" if places else ""
    weights = network.get("weights")
    start = f"it started from the weights `{weights}`" if weights else "it started from scratch"
    classes = facts.get("class_names", facts.get("people", ()))
    known = (
        counts(len(classes), "class")
        if "class_names" in facts
        else f"{counts(len(classes), 'person')} to train on"
    )
    return (
        f"`{network['backbone']}`, {block}{where}; {trained:,} parameters, {known} "
        f"of `{facts['experiment']['data']['dataset']}`; {start}; epoch {int(facts['epoch']) + 1}."
    )


def _figures(metrics: Metrics, source: str) -> str:
    if not metrics:
        return ""
    rows = [f"| {key} | {value:.2%} |" for key, value in metrics]
    lines = ["| figure | value |", "|---|---|", *rows]
    return "\n".join(["## Figures\n", f"By {source}.\n", *lines, ""])


def _use(spec: TaskSpec) -> str:
    return f"""## Use

    pip install video-snl
    {spec.command} {spec.card.use} --checkpoint FOLDER {spec.card.example}

`FOLDER` is this folder; it stands for a checkpoint in every command. `{WEIGHTS}` holds the weights
by the names of the network's parameters, `{CONFIG}` the configuration and all else that rebuilds
the network. No code is run to read them.
"""


def _versions(facts: Mapping[str, Any]) -> str:
    """Return the versions that trained and that published the network."""
    trained, published = facts.get("trained_with"), facts["version"]
    if trained is None:
        return f"Published with video-snl {published}; what it was trained with is not recorded"
    if trained == published:
        return f"Trained and published with video-snl {trained}"
    return f"Trained with video-snl {trained}, published with {published}"


def recorded_version(path: Path) -> str | None:
    """Return the version in the record of a checkpoint's run; None where it is in none.

    Raises:
        UserError: The record is damaged.
    """
    versions = _json(_run_of(path) / "run.json").get("versions")
    found = versions.get("video-snl") if isinstance(versions, Mapping) else None
    return found if isinstance(found, str) else None


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def _limits(facts: Mapping[str, Any], licence: str) -> str:
    seed = facts["experiment"]["trainer"]["seed"]
    return f"""## Made with

{_versions(facts)}, seed {seed}. The whole configuration is in `{CONFIG}`, without the
paths of the machine it was trained on. Licence: {licence}. What the licences of the training data
and of the weights it started from say holds beside it.
"""
