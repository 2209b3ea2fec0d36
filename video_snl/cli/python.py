"""``train`` as a function of Python: its options are values in the place of words.

They go through the parser of the command, and so have its names, defaults, checks and messages.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from video_snl.cli.main import parse_training, run_training
from video_snl.commands.run_results import Run
from video_snl.config.files import (
    GivenValues,
    Source,
    nearest,
    option_names,
    read_source,
    sectioned,
)
from video_snl.config.image import ImageExperiment
from video_snl.config.parsing import quieten_libraries
from video_snl.config.user_code import allowing_code
from video_snl.config.video import Experiment
from video_snl.errors import UserError

__all__ = ["train"]

_INTERRUPTED = 130
_NAME = "video_snl.train"
_KEYWORDS = (
    *("config", "data", "model", "optimizer", "trainer"),
    *("task", "resume", "force", "profile", "allow_code"),
)

Config = str | Path | Mapping[str, Any] | Experiment | ImageExperiment
"""A configuration: its file, its sections as values, or the experiment itself."""


def train(
    config: Config | list[Config] | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    task: str | None = None,
    resume: str | Path | Run | None = None,
    force: bool = False,
    profile: bool = False,
    allow_code: bool = False,
    **unknown: object,
) -> Run:
    """Train a network in this process, as the command ``train`` does.

    ``video_snl.train(data={"root": "my_videos"}, optimizer={"epochs": 2})`` is
    ``video-snl train --data.root my_videos --optimizer.epochs 2``.

    Args:
        config: File of a configuration, or its sections as values; of several the later counts.
        data, model, optimizer, trainer: Options of these sections, which win over ``config``
            (docs/configuration.md).
        task: ``video``, ``image`` or ``segmentation``; None: that of the backbone, or else of the
            dataset.
        resume: Run to be trained on, or its folder, or ``newest``; options that are given here are
            accepted in the place of its own.
        force: Resume the run also with other files or another size of the batch.
        profile: Print where loading took time.
        allow_code: Import the modules that the run to be trained on names for a block of somebody's
            own, which runs their code.
        unknown: No other keyword is taken: the message names the nearest option.

    Returns:
        The run, which is finished.

    Raises:
        UserError: An option is unknown, of another type or out of its range; the data or the
            weights cannot be had; or there is no such run.
        KeyboardInterrupt: Ctrl-C, after the run was closed in order; ``resume`` goes on.
    """
    sections = {"data": data, "model": model, "optimizer": optimizer, "trainer": trainer}
    _refuse(unknown)
    configs = config if isinstance(config, list) else [] if config is None else [config]
    sources = [_source(each) for each in configs]
    named = _keywords(sections, task)
    words = [] if resume is None else [f"--resume={_folder(resume)}"]
    words += [f"--{name}=true" for name, on in (("force", force), ("profile", profile)) if on]
    quieten_libraries()
    with allowing_code(allow_code):
        return _trained(GivenValues([*sources, named], words), named)


def _trained(given: GivenValues, named: Source) -> Run:
    """Train with options, of which some are named for this training alone."""
    arguments, spec = parse_training(given)
    arguments.given |= {name for name in named.names() if "." in name}
    if arguments.trainer.devices not in (1, "1") or arguments.trainer.nodes != 1:
        raise UserError(
            f"{_NAME}: trainer.devices={arguments.trainer.devices} and trainer.nodes="
            f"{arguments.trainer.nodes} need further processes: give 1, or use video-snl train"
        )
    trained, code = run_training(arguments, spec)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)  # a signal ended the training
    return Run(trained.folder)


def _refuse(unknown: Mapping[str, object]) -> None:
    """Refuse keywords that there are not.

    Raises:
        UserError: There is one.
    """
    for name in unknown:
        if keywords := difflib.get_close_matches(name, _KEYWORDS, 1, 0.75):
            raise UserError(f"{_NAME}: unknown keyword {name}; the nearest is {keywords[0]}")
        known = option_names(Experiment) | option_names(ImageExperiment)
        near = nearest(name.replace("__", "."), known)
        if near is None:
            raise UserError(f"{_NAME}: unknown keyword {name}; there are {', '.join(_KEYWORDS)}")
        section, _, option = near.partition(".")
        raise UserError(
            f"{_NAME}: unknown keyword {name}; the nearest option is {near}: "
            f"{section}={{{option!r}: ...}}"
        )


def _source(config: Config) -> Source:
    """Return the options of a configuration.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    if isinstance(config, str | Path):
        return sectioned(read_source(str(config), "config"))
    if is_dataclass(config) and isinstance(config, Experiment | ImageExperiment):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise UserError(f"{_NAME}: config must be a file or options, found {config!r:.60}")
    return sectioned(Source(None, "config", _plain(config, "config")))


def _keywords(sections: Mapping[str, Mapping[str, Any] | None], task: str | None) -> Source:
    """Return the options that are keywords."""
    # With the section in its name: a whole section is what a file has, whose data options keep the
    # division of earlier versions.
    values: dict[str, Any] = {} if task is None else {"task": task}
    for name, options in sections.items():
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise UserError(
                f"{_NAME}: {name} must be options, such as {{'key': value}}, found {options!r:.60}"
            )
        values |= {f"{name}.{key}": _plain(each, f"{name}.{key}") for key, each in options.items()}
    return Source(None, _NAME, values)


def _folder(resume: str | Path | Run) -> str:
    return str(resume.path if isinstance(resume, Run) else resume)


def _check_utf8(text: str, where: str) -> None:
    """Refuse text that no configuration can hold, such as names of files that are not UTF-8.

    Raises:
        UserError: It is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {ascii(text):.60} is not text in UTF-8, which a configuration is; rename "
            "the file or folder"
        ) from error


def _plain(value: Any, where: str) -> Any:
    """Return a value as YAML has it.

    Raises:
        UserError: It has none.
    """
    if isinstance(value, Mapping):
        for name in value:
            _check_utf8(str(name), where)
        return {str(name): _plain(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, where) for each in value]
    if isinstance(value, Path):
        value = str(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a number of NumPy or torch
    if isinstance(value, str):
        _check_utf8(value, where)
    try:
        yaml.safe_dump(value)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: expected a plain value, found {value!r:.60}") from error
    return value
