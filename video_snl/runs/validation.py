"""Validation of what a checkpoint, published folder or exported file says of its network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from video_snl.config.task_spec import AnyExperiment, TaskSpec
from video_snl.config.validation import check_value, fits
from video_snl.errors import UserError
from video_snl.runs.published import CONFIG, DIGEST, WEIGHTS, WEIGHTS_DIGEST

__all__ = ["built_from", "checked_experiment"]


def checked_experiment(content: Mapping[str, Any], path: Path, spec: TaskSpec) -> AnyExperiment:
    """Return the configuration of a file of ours, of which all entries have been looked at.

    Args:
        content: Content of the file, without the weights.
        path: The file, for messages.
        spec: Kind of task.

    Raises:
        UserError: It is of another format, an entry is missing, or of another type or size. It
            names the file, the entry, what was expected and what was found.
    """
    source = _source(path)
    about = content[spec.entry]
    if not isinstance(about, Mapping):
        raise _misfit(f"{spec.entry}: expected an object, found {about!r:.60}", source, spec)
    version = about.get("format_version")
    if not fits(version, int):
        what = f"format_version: expected a whole number, found {version!r:.60}"
        raise _misfit(what, source, spec)
    if version != spec.format_version:
        raise UserError(
            f"{source} has checkpoint format {version}, this version of {spec.command} reads "
            f"format {spec.format_version}; install the {spec.command} that wrote it."
        )
    try:
        experiment = spec.experiment(about["experiment"])
        published = about.get("pretrained")
        check_value(published, str | None, "pretrained")
        for name, kind in spec.entries.items():
            check_value(about[name], kind, name)
            # Weights that others published do not say whom they were trained on.
            if published is None or about[name]:
                _check_size(name, about[name])
        check_value(about.get("trained_with"), str | None, "trained_with")
        check_value(content["epoch"], int, "epoch")
        for digest in (DIGEST, WEIGHTS_DIGEST):
            check_value(content.get(digest), str | None, digest)
    except KeyError as error:
        raise _misfit(f"it has no entry {error}", source, spec) from error
    except TypeError as error:
        raise _misfit(str(error), source, spec) from error
    return experiment


@contextmanager
def built_from(path: Path) -> Iterator[None]:
    """Name the file where a network cannot be built as the file says.

    Raises:
        UserError: In the place of one without the file, or of what torch says of sizes that no
            network can have.
    """
    try:
        yield
    except (UserError, ValueError, RuntimeError, TypeError, ArithmeticError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{_source(path)}: its network cannot be built: {reason}") from error


def _source(path: Path) -> Path:
    """Return the path of the description: in a published folder, beside the weights."""
    return path.with_name(CONFIG) if path.name == WEIGHTS else path


def _check_size(name: str, value: Any) -> None:
    if name not in ("mean", "std"):
        if not value:
            raise TypeError(f"{name}: expected at least one entry, found none")
        return
    finite = len(value) == 3 and all(map(math.isfinite, value))
    if not finite or (name == "std" and min(value) <= 0):
        above = " above 0" if name == "std" else ""
        raise TypeError(f"{name}: expected three finite numbers{above}, found {value!r:.60}")


def _misfit(what: str, source: Path, spec: TaskSpec) -> UserError:
    return UserError(
        f"{source}: its configuration does not fit this version of {spec.command} ({what}); it is "
        "damaged, or was written by another version."
    )
