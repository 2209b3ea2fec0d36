"""Checkpoints that are given to others: what is said of them, and folders of them. Without torch.

Such a folder holds ``model.safetensors`` (the weights, read without running code), ``config.json``
(all that rebuilds the network), ``README.md`` (a card) and, of a run that divided its videos
itself, ``split.csv`` (which trained, which test). It stands for a checkpoint everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video_snl import __version__
from video_snl.config.task_spec import TaskSpec
from video_snl.data.video.division import SPLIT_FILE
from video_snl.errors import UserError
from video_snl.utils.files import digest_of
from video_snl.utils.json_text import parse_json, to_json

__all__ = [
    "CONFIG",
    "CONFIG_DIGEST",
    "DIGEST",
    "SPLIT_DIGEST",
    "WEIGHTS",
    "WEIGHTS_DIGEST",
    "config_text",
    "facts_of",
    "is_shared",
    "read_shared",
    "shared_weights",
    "stored_facts",
]

WEIGHTS, CONFIG = "model.safetensors", "config.json"

DIGEST = "checkpoint_sha256"
# Of the file of weights beside config.json: safetensors have no checksum of their own.
WEIGHTS_DIGEST = "weights_sha256"
# Of the split.csv beside config.json.
SPLIT_DIGEST = "split_sha256"
# Of all other entries of config.json, as canonical JSON.
CONFIG_DIGEST = "config_sha256"
# Of the entries of config.json, those that are about the file, not about the network.
_BESIDE = (
    "program",
    "version",
    "epoch",
    DIGEST,
    WEIGHTS_DIGEST,
    SPLIT_DIGEST,
    CONFIG_DIGEST,
    "input",
)
_KNOWN_WEIGHTS = ("kinetics", "imagenet")


class _Facts(dict[str, Any]):
    """Description of a network in a file; a missing entry is a UserError."""

    def __init__(self, values: Mapping[str, Any], source: Path) -> None:
        super().__init__(values)
        self.source = source

    def __missing__(self, key: str) -> Any:
        raise UserError(
            f"{self.source}: it has no entry {key!r}, and so was not written by publish or export, "
            "or is damaged; publish or export the checkpoint again."
        )


def config_text(facts: Mapping[str, Any]) -> str:
    """Return the text of ``config.json``: the facts, and the SHA-256 of all of them."""
    return to_json({**facts, CONFIG_DIGEST: _config_digest(facts)}, indent=2) + "\n"


def _config_digest(facts: Mapping[str, Any]) -> str:
    entries = {name: value for name, value in facts.items() if name != CONFIG_DIGEST}
    return hashlib.sha256(to_json(entries, sort_keys=True).encode()).hexdigest()


def facts_of(content: Mapping[str, Any], spec: TaskSpec) -> dict[str, Any]:
    """Return what a checkpoint says of its network, as plain values to be given to others.

    Paths of this machine are left out: ``data.root`` and ``trainer.output``, and of
    ``model.weights`` all but a file's name.
    """
    about = dict(content[spec.entry])
    experiment = {name: dict(section) for name, section in about["experiment"].items()}
    experiment["data"]["root"] = None
    experiment["trainer"]["output"] = "runs"
    weights = experiment["model"].get("weights")
    if weights and weights not in _KNOWN_WEIGHTS and "://" not in weights:
        experiment["model"]["weights"] = Path(weights).name
    return {
        "program": spec.entry,
        "version": __version__,
        **about,
        "experiment": experiment,
        "epoch": int(content["epoch"]),
    }


def stored_facts(text: str, source: Path) -> Mapping[str, Any]:
    """Invert :func:`facts_of`: return the part of a checkpoint that is not tensors.

    Raises:
        UserError: The text is not a JSON object, or, where an entry is used, it is not there.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source} holds no JSON ({error}); publish or export it again.") from error
    if not isinstance(values, dict):
        raise UserError(f"{source}: expected a JSON object; publish or export it again.")
    facts = _Facts(values, source)
    if not isinstance(facts["program"], str):
        raise UserError(
            f"{source}: program: expected a text, found {facts['program']!r:.60}; publish or "
            "export the checkpoint again."
        )
    about = {name: value for name, value in values.items() if name not in _BESIDE}
    beside = {name: value for name, value in values.items() if name in _BESIDE}
    content = {**beside, facts["program"]: _Facts(about, source), "epoch": facts["epoch"]}
    return _Facts(content, source)


def is_shared(path: Path) -> bool:
    """Tell if a folder is a published one, or was to be."""
    return path.is_dir() and any((path / name).is_file() for name in (WEIGHTS, CONFIG))


def shared_weights(folder: Path) -> Path:
    """Return the file of its weights.

    Raises:
        UserError: There is none.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} holds a {CONFIG}, but no {WEIGHTS}: fetch the whole folder.")
    return path


def read_shared(path: Path) -> Mapping[str, Any]:
    """Return the contents of a folder as those of a checkpoint; ``path`` is that of its weights.

    The weights, the list of the videos and the entries of ``config.json`` are compared with the
    SHA-256 of each that is among these. Folders that were published before there were any have
    none.

    Raises:
        UserError: A file is missing or damaged, or the two are not of one folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = path.parent / CONFIG
    try:
        content = stored_facts(config.read_text(encoding="utf-8"), config)
        _check_config(config)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} needs the {CONFIG} that was published beside it, which cannot be read "
            f"({_reason(error)}); fetch the whole folder."
        ) from error
    try:
        _check_weights_digest(path, content.get(WEIGHTS_DIGEST))
        _check_split_digest(path.with_name(SPLIT_FILE), content.get(SPLIT_DIGEST))
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({_reason(error)}): it is damaged or cut short, or stands for "
            "a file that git lfs has not fetched (git lfs pull); fetch it again."
        ) from error
    return {**content, "state_dict": {f"model.{name}": value for name, value in weights.items()}}


def _check_config(config: Path) -> None:
    values = parse_json(config.read_text(encoding="utf-8"))
    sealed = [name in values for name in (CONFIG_DIGEST, WEIGHTS_DIGEST)]
    if not any(sealed):
        return
    if not all(sealed) or values[CONFIG_DIGEST] != _config_digest(values):
        raise UserError(
            f"{config} cannot be used: it differs from what was published ({CONFIG_DIGEST} in it): "
            "it is damaged, or was changed by hand; fetch the whole folder again."
        )


def _check_weights_digest(path: Path, expected: Any) -> None:
    if expected is not None and digest_of(path) != expected:
        raise UserError(
            f"{path} cannot be used: it differs from what was published ({WEIGHTS_DIGEST} in "
            f"{CONFIG}): it is damaged or cut short, belongs to another {CONFIG}, or stands for a "
            "file that git lfs has not fetched (git lfs pull); fetch the whole folder again."
        )


def _check_split_digest(path: Path, expected: Any) -> None:
    """Compare the list of the videos; only an evaluation needs one, and it says where it lacks."""
    if expected is not None and path.is_file() and digest_of(path) != expected:
        raise UserError(
            f"{path} cannot be used: it differs from what was published ({SPLIT_DIGEST} in "
            f"{CONFIG}): it is damaged, or was changed by hand; fetch the whole folder again."
        )


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or " ".join(str(error).split()) or type(error).__name__)
