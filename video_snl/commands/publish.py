"""``publish``: a checkpoint as a folder for a model hub, or for anybody else.

Beside the weights and the configuration lies a card, a README.md with the header that model hubs
read. Nothing is uploaded, and no hub is asked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor, nn

from video_snl.blocks.insertion import inserted_blocks
from video_snl.config.task_spec import AnyExperiment, TaskSpec, shown_tops
from video_snl.config.user_code import named_code
from video_snl.data.video.division import SPLIT_FILE, read_split
from video_snl.errors import UserError
from video_snl.export.checking import finite_logits, random_inputs
from video_snl.runs.published import (
    CONFIG,
    DIGEST,
    SPLIT_DIGEST,
    WEIGHTS,
    WEIGHTS_DIGEST,
    config_text,
    facts_of,
)
from video_snl.runs.trained import TrainedNetwork
from video_snl.utils.counts import counts
from video_snl.utils.files import check_new_folder, digest_of, writing
from video_snl.utils.json_text import parse_json
from video_snl.utils.locks import whole_folder
from video_snl.utils.text import say_once

if TYPE_CHECKING:
    from huggingface_hub import ModelCard, ModelCardData

__all__ = ["publish"]

_SHARE = re.compile(r"(^|[/_.])(top\d+|rank\d+|mAP|mINP|mIoU|mAcc|aAcc)$")
_METRIC_TYPES = {"mAP": "mean_average_precision", "mIoU": "mean_iou", "mINP": "mINP"}
# Where commands put the figures of an evaluation, below the folder of a run.
_REPORTS = ("evaluation/metrics.json", "report/metrics.json")

Metrics = Sequence[tuple[str, float]]


def publish(
    trained: TrainedNetwork[AnyExperiment], *, output: str, licence: str, name: str | None
) -> int:
    """Write the folder ``output``: whole, or not at all.

    Args:
        trained: The network of a checkpoint, of any kind of task.
        output: The folder.
        licence: Licence as hubs name it, such as ``apache-2.0``.
        name: Name of the model; default that of the folder.

    Raises:
        UserError: The folder is there and not empty, or cannot be made, or a file of the run's
            figures is damaged, or what the network computes is not finite, or a variable of the
            environment stops huggingface_hub.
    """
    _check_hub()
    spec, path, content = trained.spec, trained.path, trained.stored
    operations = spec.make()
    shape = 1, *operations.input_shape(trained.experiment)
    folder = Path(output)
    check_new_folder("-o", output)
    for what, x in random_inputs([shape]):
        finite_logits(operations.output(trained.model), what, x)
    facts = facts_of(content, spec) | {DIGEST: content.get(DIGEST) or digest_of(path)}
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if "trained_with" not in facts:  # of checkpoints that do not say, the run knows
        facts["trained_with"] = _recorded_version(run)
    name = name or folder.absolute().name
    split = _split(run)
    card = _card(run, facts, trained.model, spec, name=name, licence=licence, split=bool(split))
    with writing("-o", output):
        _write(folder, trained.model.state_dict(), facts, card, split)
    size = sum(file.stat().st_size for file in folder.iterdir())
    names = [WEIGHTS, CONFIG, *([SPLIT_FILE] if split else [])]
    print(f"{folder}: {', '.join(names)} and README.md, {size / 1e6:.1f} MB in all")
    print(f"use it: {spec.command} {spec.card.use} --checkpoint {folder}")
    return 0


def _split(run: Path) -> bytes | None:
    """Return the ``split.csv`` of a run without paths of this machine; None where there is none.

    Raises:
        UserError: It is damaged.
    """
    stored = read_split(run / SPLIT_FILE)
    if stored is None:
        return None
    content, count = stored.without_places
    left_out = len(stored.rows) - count
    if left_out:
        say_once(
            f"{stored.file}: {counts(left_out, 'video')} with an absolute path, which no other "
            f"machine has, {'is' if left_out == 1 else 'are'} left out"
        )
    if count:
        say_once(f"{SPLIT_FILE} names {counts(count, 'video')} of the training and its test")
    return content if count else None


def _write(
    folder: Path,
    weights: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    card: ModelCard,
    split: bytes | None,
) -> None:
    with whole_folder(folder) as made:
        # Each of its own memory: tied weights would be refused.
        whole = {name: value.detach().clone().contiguous() for name, value in weights.items()}
        save_file(whole, made / WEIGHTS, metadata={"format": "pt"})
        facts = {**facts, WEIGHTS_DIGEST: digest_of(made / WEIGHTS)}
        if split is not None:
            (made / SPLIT_FILE).write_bytes(split)
            facts[SPLIT_DIGEST] = digest_of(made / SPLIT_FILE)
        (made / CONFIG).write_text(config_text(facts), encoding="utf-8")
        # safetensors gives nobody else a permission, whatever the umask.
        (made / WEIGHTS).chmod(stat.S_IMODE((made / CONFIG).stat().st_mode))
        card.save(made / "README.md")


# The card


def _check_hub() -> None:
    """Import huggingface_hub, which reads its variables of the environment as it is imported.

    Raises:
        UserError: It cannot read one of them.
    """
    try:
        import huggingface_hub.constants  # noqa: F401  (the package itself is imported on use)
    except ValueError as error:
        found = sorted(name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_")))
        raise UserError(
            f"huggingface_hub, which writes the card, cannot be imported ({error}): correct or "
            f"unset its variables of the environment ({', '.join(found)})."
        ) from error


def _card(
    run: Path,
    facts: Mapping[str, Any],
    model: nn.Module,
    spec: TaskSpec,
    *,
    name: str,
    licence: str,
    split: bool,
) -> ModelCard:
    """Return the card of a network.

    Args:
        run: Folder of its run; figures are taken from there, where they are of its epoch.
        facts: Result of :func:`~video_snl.runs.published.facts_of`.
        split: Its list of videos lies beside it.
    """
    from huggingface_hub import ModelCard

    metrics, source = _found_metrics(run, int(facts["epoch"]) + 1)
    header = _header(facts, spec, metrics, source, name=name, licence=licence)
    parts = [
        f"---\n{header.to_yaml()}\n---\n\n# {name}\n",
        f"`{name}` is a network that {spec.card.purpose}: {_network(facts, model)}\n",
        _figures(metrics, source),
        _use(spec, facts["experiment"]["model"]) + (_SPLIT if split else ""),
        _made_with(facts, licence),
    ]
    return ModelCard("\n".join(part for part in parts if part))


def _header(
    facts: Mapping[str, Any],
    spec: TaskSpec,
    metrics: Metrics,
    source: str,
    *,
    name: str,
    licence: str,
) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    network, dataset = facts["experiment"]["model"], facts["experiment"]["data"]["dataset"]
    tags = [*spec.card.tags, "nonlocal", "pytorch", network["backbone"], network["block"]]
    results = [
        EvalResult(
            task_type=spec.card.pipeline,
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=_METRIC_TYPES.get(re.split(r"[/_.]", key)[-1], "accuracy"),
            metric_name=f"{key}, {source}",
            metric_value=round(value, 6),
        )
        for key, value in metrics
    ]
    return ModelCardData(
        license=licence,
        library_name="video-snl",
        pipeline_tag=spec.card.pipeline,
        tags=[tag for tag in dict.fromkeys(tags) if tag != "none"],
        datasets=[dataset],
        # None leaves an entry out.
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _network(facts: Mapping[str, Any], model: nn.Module) -> str:
    network = facts["experiment"]["model"]
    trained = sum(parameter.numel() for parameter in model.parameters())
    places = ", ".join(inserted_blocks(model))
    block = "no block" if network["block"] == "none" else f"block `{network['block']}`"
    where = f" at {places}" if places else ""
    weights = network.get("weights")
    start = f"it started from the weights `{weights}`" if weights else "it started from scratch"
    known = (
        counts(len(facts["class_names"]), "class")
        if "class_names" in facts
        else f"{counts(len(facts.get('people', ())), 'identity')} to train on"
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


_SPLIT = f"""
`{SPLIT_FILE}` lists the videos that it was trained on and those that were held out
(`path,label,split,group`); `evaluate` on the same files follows it.
"""


def _use(spec: TaskSpec, network: Mapping[str, Any]) -> str:
    code, allowed = "No code is run to read them.", ""
    if paths := sorted(set(named_code(network).values())):
        named = " and ".join(f"`{path}`" for path in paths)
        code = (
            f"The network is made by {named}, which are not part of video-snl: their\n"
            "modules have to be installed, and are imported, and so run, only with `--allow_code`."
        )
        allowed = " --allow_code"
    return f"""## Use

    pip install 'video-snl[all]'
    {spec.command} {spec.card.use} --checkpoint FOLDER{allowed} {spec.card.example}

`FOLDER` is this folder; it stands for a checkpoint in every command. `{WEIGHTS}` holds the weights
by the names of the network's parameters, `{CONFIG}` the configuration and all else that rebuilds
the network. {code}
"""


def _made_with(facts: Mapping[str, Any], licence: str) -> str:
    """Name the versions of the training, not only the one that publishes, the seed and licence."""
    trained, published = facts.get("trained_with"), facts["version"]
    if trained is None:
        versions = f"Published with video-snl {published}; what it was trained with is not recorded"
    elif trained == published:
        versions = f"Trained and published with video-snl {trained}"
    else:
        versions = f"Trained with video-snl {trained}, published with {published}"
    seed = facts["experiment"]["trainer"]["seed"]
    return f"""## Made with

{versions}, seed {seed}. The whole configuration is in `{CONFIG}`, without the
paths of the machine it was trained on. Licence: {licence}. What the licences of the training data
and of the weights it started from say holds beside it.
"""


# What the folder of the run says of the network


def _found_metrics(run: Path, epoch: int) -> tuple[Metrics, str]:
    """Return the figures of an epoch, as shares, and what they were measured by.

    Those of an evaluation in the folder, on the dataset of the training, else those that the run
    recorded at the end of that epoch. None where both are of another epoch.

    Raises:
        UserError: A file of figures is damaged.
    """
    record = _json(run / "run.json")
    for report in _REPORTS:
        values = _json(run / report)
        about = values.get("settings", values)
        if values and about.get("epoch") == epoch and _is_of(record, values):
            views = values.get("views")
            shares = [
                (_labelled(key, views), value)
                for key, value in _shares(values)
                if "per_class" not in key and _says_something(key, values.get("classes"))
            ]
            return shares, f"evaluate ({_measured_on(values)})"
    for row in record.get("metrics", {}).values():
        if row.get("epoch") == epoch:
            rows = {key: value for key, value in row.items() if key.startswith("val/")}
            return list(_shares(rows)), "the validation of its training"
    return [], ""


def _recorded_version(run: Path) -> str | None:
    """Return the version in the record of a run; None without one.

    Raises:
        UserError: The record is damaged.
    """
    versions = _json(run / "run.json").get("versions")
    found = versions.get("video-snl") if isinstance(versions, Mapping) else None
    return found if isinstance(found, str) else None


def _is_of(record: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Tell whether figures belong to the dataset and split of the training, if both say."""
    trained_on = record.get("config", {}).get("data", {})
    measured = {
        "dataset": values.get("dataset", values.get("data", {}).get("name")),
        "split": values.get("split"),
    }
    return all(
        trained_on.get(key) is None or value is None or trained_on[key] == value
        for key, value in measured.items()
    )


def _measured_on(values: Mapping[str, Any]) -> str:
    """Say which part of its dataset an evaluation is about."""
    dataset = values.get("dataset", values.get("data", {}).get("name", "its dataset"))
    split = values.get("settings", values).get("split")
    videos = values.get("videos")
    parts = [str(dataset), *([] if split is None else [f"split {split}"])]
    return ", ".join([*parts, *([] if videos is None else [counts(videos, "test video")])])


def _shares(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield all shares, also of nested entries, by their names on the card."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _shares(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and _SHARE.search(f"{prefix}{key}"):
            yield f"{prefix}{key}".removeprefix("val/").removeprefix("rankings."), float(value)


def _says_something(key: str, classes: int | None) -> bool:
    """Tell whether a figure is shown: a top-k accuracy of few classes is not."""
    found = re.search(r"top(\d+)$", key)
    return found is None or int(found[1]) in shown_tops(classes)


def _labelled(key: str, views: str | None) -> str:
    """Name a figure of a clip or of a video with what it was measured on."""
    if views is None:
        return key
    return f"{key} ({'centre crop of the centre clip' if key.startswith('clip_') else views})"


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): evaluate the checkpoint again, which writes it anew."
        ) from error
