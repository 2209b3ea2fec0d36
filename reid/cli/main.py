"""The command ``reid``. No torch is imported before a command's arguments are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from reid.cli import explain as cli_explain
from reid.cli import features as cli_features
from reid.cli import serve as cli_serve
from reid.cli import spectrum as cli_spectrum
from reid.cli.evaluate import EVALUATE, add_evaluate_options, evaluate
from reid.config import ReidExperiment
from reid.task_spec import REID
from video_snl.cli.publish import PUBLISH, add_publish_options, check_publish
from video_snl.config.files import Given
from video_snl.config.parsing import (
    Commands,
    Parser,
    add_profile,
    add_resume,
    adopt,
    config_name,
    experiment_of,
    experiment_parser,
    run_command,
)
from video_snl.errors import UserError

__all__ = ["main"]

_DESCRIPTION = """Video person re-identification with nonlocal blocks (arXiv:2108.02451).
Without --config, the defaults are the sample experiment: a small OSNet with one spectral nonlocal
block on a generated data set. evaluate, extract and search take the newest run with a
checkpoint; where there is none, evaluate trains the sample experiment first."""

_SHORT = ("dataset", "root", "split", "cameras")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 2 bad input, 130 and 143 interrupted)."""
    return run_command(REID.command, _DESCRIPTION, _COMMANDS, arguments, _prepare)


def _reid_parser(prog: str, description: str) -> ArgumentParser:
    parser = experiment_parser(prog, description, ReidExperiment)
    for name in _SHORT:
        parser.add_argument(
            f"--{name}", type=str, metavar=name.upper(), help=f"Short for --data.{name}."
        )
    return parser


def _train_parser(prog: str) -> ArgumentParser:
    parser = _reid_parser(prog, "Train a network on tracklets.")
    add_resume(parser)
    parser.add_argument(
        "--splits",
        type=str,
        metavar="all",
        help="One run after the other for every split of iLIDS-VID or PRID-2011; the folder of "
        "runs is then what evaluate takes as --checkpoint.",
    )
    add_profile(parser, "tracklets")
    return parser


def _evaluate_parser(prog: str) -> ArgumentParser:
    parser = _reid_parser(prog, EVALUATE)
    add_evaluate_options(parser)
    return parser


def _describe_parser(prog: str) -> ArgumentParser:
    parser = _reid_parser(
        prog, "Show a network: its layers, where the blocks stand, parameters and multiply-adds."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _extract_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_features.EXTRACT)
    cli_features.add_extract_options(parser)
    return parser


def _search_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_features.SEARCH)
    cli_features.add_search_options(parser)
    return parser


def _explain_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_explain.EXPLAIN_DESCRIPTION)
    cli_explain.add_explain_options(parser)
    return parser


def _serve_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_serve.SERVE_DESCRIPTION)
    cli_serve.add_serve_options(parser)
    return parser


def _spectrum_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_spectrum.SPECTRUM_DESCRIPTION)
    cli_spectrum.add_spectrum_options(parser)
    return parser


def _check_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=cli_features.CHECK)
    cli_features.add_check_options(parser)
    return parser


def _publish_parser(prog: str) -> ArgumentParser:
    parser = Parser(prog=prog, description=PUBLISH)
    add_publish_options(parser, cli_features.NEWEST)
    return parser


def _experiment_of(arguments: Namespace) -> ReidExperiment:
    return experiment_of(ReidExperiment, arguments)


def _train(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    if arguments.splits is not None:
        from reid.splits import train_all

        return train_all(experiment, arguments.splits, resume=arguments.resume)
    from video_snl.engine.resume import Asked
    from video_snl.engine.train import train

    return train(
        experiment,
        REID,
        config_name=config_name(arguments),
        asked=Asked(arguments.resume, arguments.given, arguments.force),
        profile=arguments.profile,
    )


def _evaluate(arguments: Namespace) -> int:
    return evaluate(_experiment_of(arguments), arguments)


def _describe(arguments: Namespace) -> int:
    experiment = _experiment_of(arguments)  # refused before torch is loaded
    from video_snl.commands.describe import describe

    return describe(experiment, REID, as_json=arguments.json)


def _publish(arguments: Namespace) -> int:
    check_publish(arguments)
    from reid.runs import find_checkpoint
    from video_snl.commands.publish import publish
    from video_snl.runs.trained import load_trained

    return publish(
        load_trained(find_checkpoint(arguments.checkpoint), REID),
        output=arguments.output,
        licence=arguments.licence,
        name=arguments.name,
    )


def _prepare(parser: ArgumentParser, command: str, given: Given) -> Given:
    """Short options spelled out; the configuration of a run that is used for the defaults."""
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
    """The configuration of the run that a command builds on, if there is one."""
    from video_snl.runs.trained import stored_experiment

    output = str(given.said("trainer.output") or "runs")
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


_COMMANDS: Commands = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "extract": (_extract_parser, cli_features.extract),
    "search": (_search_parser, cli_features.search),
    "describe": (_describe_parser, _describe),
    "explain": (_explain_parser, cli_explain.explain),
    "spectrum": (_spectrum_parser, cli_spectrum.spectrum),
    "check": (_check_parser, cli_features.check),
    "serve": (_serve_parser, cli_serve.serve),
    "publish": (_publish_parser, _publish),
}
