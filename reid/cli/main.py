"""The command ``reid``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.cli import features, gallery, tracks
from reid.cli.evaluate import EVALUATE, Evaluate, check_network, evaluate
from reid.config import ReidExperiment
from reid.pretrained import recipe_experiment
from reid.task_spec import REID
from video_snl.cli.publish import PUBLISH, Publish
from video_snl.cli.spectrum import SPECTRUM
from video_snl.config.files import Given
from video_snl.config.options import Json, Profile, Resume, option, option_group, options_of
from video_snl.config.parsing import (
    COMMON_DESCRIBE,
    COMMON_EVALUATE,
    COMMON_TRAIN,
    Command,
    Commands,
    adopt,
    check_root,
    config_name,
    experiment_of,
    run_command,
)
from video_snl.errors import UserError
from video_snl.utils.quick_imports import quick_imports

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from video_snl.config.parser import Parser

__all__ = ["main"]

_DESCRIPTION = """Video person re-identification with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults are the sample experiment: a small OSNet with one spectral nonlocal
block on a generated dataset. Commands that need a network take the newest run with a checkpoint;
where there is none, evaluate trains the sample experiment first. evaluate, extract, search,
identify, serve and export take published weights, too (--pretrained osnet_x0_25_msmt17)."""

_SHORT = ("dataset", "root", "split", "cameras")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["gallery"]:
        return gallery.run_gallery_command(words[1:])
    return run_command(REID.command, _DESCRIPTION, _COMMANDS, words, _prepare)


@option_group
class _Short:
    """Short forms of options of the data.

    Args:
        dataset: Short for --data.dataset.
        root: Short for --data.root.
        split: Short for --data.split.
        cameras: Short for --data.cameras.
    """

    dataset: str | None = option(metavar="DATASET")
    root: str | None = option(metavar="ROOT")
    split: str | None = option(metavar="SPLIT")
    cameras: str | None = option(metavar="CAMERAS")


@option_group
class _Train(Profile, Resume, _Short):
    """Options of ``train``.

    Args:
        splits: One run after the other for every split of iLIDS-VID or PRID-2011; the folder of
            runs is then what evaluate takes as --checkpoint. Default: the one --data.split.
    """

    splits: str | None = option(metavar="all")


@option_group
class _Evaluate(Evaluate, _Short):
    """Options of ``evaluate``."""


@option_group
class _Describe(Json, _Short):
    """Options of ``describe``."""


def _train(arguments: Namespace) -> int:
    experiment = experiment_of(ReidExperiment, arguments)  # refused before torch is loaded
    options = options_of(_Train, arguments)
    if options.resume is None:
        check_root(arguments)
    if options.splits is not None:
        from reid.splits import train_all

        return train_all(experiment, options.splits, resume=options.resume)
    if experiment.data.num_workers:
        from video_snl.data.workers.forkserver import start_forkserver

        start_forkserver()  # imports its modules while this process imports its own
    with quick_imports():
        from video_snl.engine.resume import Asked
        from video_snl.engine.train import train

    return train(
        experiment,
        REID,
        config_name=config_name(arguments),
        asked=Asked(options.resume, arguments.given, options.force),
        profile=options.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    return evaluate(experiment_of(ReidExperiment, arguments), arguments)


def _describe(arguments: Namespace) -> int:
    experiment = experiment_of(ReidExperiment, arguments)  # refused before torch is loaded
    from video_snl.commands.describe import describe

    return describe(experiment, REID, as_json=arguments.json)


def _prepare(parser: Parser, command: str, given: Given) -> Given:
    """Spell out short options; let the configuration of a run stand for the defaults."""
    if command in ("train", "evaluate", "describe"):
        given = Given(_spelled_out(word) for word in given.words)
        _check_short(given)
    if given.asks_for_help or command not in ("train", "evaluate"):
        return given
    if command == "train" and given.said("resume", alone="newest") == "newest":
        from video_snl.runs.run import newest_begun

        # Named here: the stored configuration may name another folder of runs, of before a move.
        output = str(given.said("trainer.output") or "runs")
        newest = newest_begun(Path(output), REID).folder
        given = Given([*given.words, f"--resume={newest}"])
    dataset = given.said("data.dataset")
    stored = _stored(command, given)
    if stored is not None:
        if command == "evaluate" and dataset not in (None, stored["data"]["dataset"]):
            # Another dataset than it was trained on: that one's place and split are no defaults.
            stored["data"] |= {"root": None, "split": 0, "cameras": "cross"}
        if command == "evaluate":
            # Where runs are looked for here is not where that one was written.
            del stored["trainer"]["output"]
        adopt(parser, stored)
    return given


def _check_short(given: Given) -> None:
    """Refuse short options in a configuration, which would not be looked at there.

    Raises:
        UserError: It says where they belong.
    """
    for source in () if given.asks_for_help else given.configs:
        for name in _SHORT:
            if source.values.get(name) is not None:
                raise UserError(f"{source.said}: {name} belongs into the section data.")


def _spelled_out(word: str) -> str:
    name, sign, value = word.partition("=")
    return f"--data.{name[2:]}{sign}{value}" if name in [f"--{x}" for x in _SHORT] else word


def _stored(command: str, given: Given) -> dict[str, Any] | None:
    """Return the configuration of the run that a command builds on, if there is one."""
    from video_snl.runs.trained import stored_experiment

    output = str(given.said("trainer.output") or "runs")
    if command == "evaluate":
        named = [name for name in given.all_of("checkpoint") if name is not None]
        published = given.said("pretrained")
        check_network(named, published, given.said("weights"))
        if published is not None:
            return recipe_experiment(published).to_dict()
    if command == "train":
        resumed = given.said("resume", alone="newest")
        if resumed is None:
            return None
        return stored_experiment(resumed, output, checkpoint=False, spec=REID).to_dict()
    from reid.runs import find_checkpoints

    named = [name for name in given.all_of("checkpoint") if name is not None]
    found = find_checkpoints(named, output, given.said("data.dataset"))
    if not found:
        return None
    return stored_experiment(str(Path(found[0])), output, checkpoint=True, spec=REID).to_dict()


_command = partial(Command, extras=("reid",))
_COMMANDS: Commands = {
    "train": _command(
        "Train a network on tracklets.",
        _Train,
        _train,
        ReidExperiment,
        tuple(name.replace("optimizer.batch_size", "data.identities") for name in COMMON_TRAIN),
    ),
    "evaluate": _command(
        EVALUATE,
        _Evaluate,
        _evaluate,
        ReidExperiment,
        (
            *COMMON_EVALUATE,
            "pretrained",
            "weights",
            "test_frames",
            "metric",
            "rerank",
            "protocol",
            "json",
            "report",
        ),
    ),
    "extract": _command(features.EXTRACT, features.Extract, features.extract),
    "search": _command(features.SEARCH, features.Search, features.search),
    "calibrate": _command(features.CALIBRATE, features.Calibrate, features.calibrate),
    "gallery": _command(gallery.GALLERY, gallery.Group, gallery.gallery),
    "tracklets": _command(tracks.TRACKLETS, tracks.Tracklets, tracks.tracklets),
    "identify": _command(tracks.IDENTIFY, tracks.Identify, tracks.identify),
    "describe": _command(
        "Show a network: its layers, where the blocks stand, parameters and multiply-adds.",
        _Describe,
        _describe,
        ReidExperiment,
        (*COMMON_DESCRIBE, "model.head", "data.frames", "data.height", "data.width"),
    ),
    "explain": _command(
        features.EXPLAIN, features.Explain, features.explain, extras=("reid", "explain")
    ),
    "spectrum": _command(
        SPECTRUM, features.Spectrum, features.spectrum, extras=("reid", "explain")
    ),
    "check": _command(features.CHECK, features.Check, features.check),
    "serve": _command(features.SERVE, features.Serve, features.serve, extras=("reid", "serve")),
    "export": _command(
        features.EXPORT, features.Export, features.export, extras=("reid", "export")
    ),
    "publish": _command(PUBLISH, Publish, features.publish),
}
