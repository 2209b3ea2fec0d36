"""The command ``publish`` of both programs. Without torch."""

from __future__ import annotations

import re

from jsonargparse import ArgumentParser, Namespace

from video_snl.cli.trained import add_checkpoint_option
from video_snl.errors import UserError

__all__ = ["PUBLISH", "add_publish_options", "check_publish", "publish"]

PUBLISH = """Write a checkpoint as a folder for a model hub: weights, configuration, card.
The folder stands for a checkpoint in every command. Nothing is uploaded."""


def add_publish_options(parser: ArgumentParser, newest: str = "newest run with one") -> None:
    add_checkpoint_option(parser, newest)
    parser.add_argument(
        "-o", "--output", type=str, required=True, metavar="DIR", help="The folder, a new one."
    )
    parser.add_argument(
        "--licence",
        type=str,
        default="apache-2.0",
        help="Of the weights, as hubs name it: apache-2.0, mit, cc-by-nc-4.0, other, ...",
    )
    parser.add_argument("--name", type=str, help="Of the model; default that of the folder.")


def check_publish(arguments: Namespace) -> None:
    """Refuse what would make a card that hubs cannot read.

    Raises:
        UserError: The licence or the name is none.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", arguments.licence):
        raise UserError(
            f"--licence {arguments.licence!r}: give an identifier as hubs name it, in small "
            "letters, such as apache-2.0, mit, cc-by-4.0 or other."
        )
    if arguments.name is not None and not re.fullmatch(r"[\w.-]+", arguments.name):
        raise UserError(
            f"--name {arguments.name!r}: give letters, digits, '-', '_' and '.' without spaces."
        )


def publish(arguments: Namespace) -> int:
    check_publish(arguments)
    from video_snl.commands.publish import publish
    from video_snl.runs.trained import find_trained

    return publish(
        find_trained(arguments.checkpoint),
        output=arguments.output,
        licence=arguments.licence,
        name=arguments.name,
    )
