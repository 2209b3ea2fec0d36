"""The command ``publish`` of both programs. Without torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from video_snl.config.options import Checkpoint, option, option_group, options_of
from video_snl.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["PUBLISH", "Publish", "publish", "publish_options"]

PUBLISH = """Write a checkpoint as a folder for a model hub: weights, configuration, card.
The folder stands for a checkpoint in every command. Nothing is uploaded."""


@option_group
class Publish(Checkpoint):
    """Options of ``publish``.

    Args:
        output: Folder to write, a new one.
        licence: Licence of the weights, as hubs name it: apache-2.0, mit, cc-by-nc-4.0, other, ...
        name: Name of the model; default that of the folder.
    """

    output: str = option(short="-o", required=True, metavar="DIR")
    licence: str = "apache-2.0"
    name: str | None = None


def publish_options(arguments: Namespace) -> Publish:
    """Return the options; refuse those that would make a card that hubs cannot read.

    Raises:
        UserError: The licence or the name is none.
    """
    options = options_of(Publish, arguments)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", options.licence):
        raise UserError(
            f"--licence {options.licence!r}: give an identifier as hubs name it, in small "
            "letters, such as apache-2.0, mit, cc-by-4.0 or other."
        )
    if options.name is not None and not re.fullmatch(r"[\w.-]+", options.name):
        raise UserError(
            f"--name {options.name!r}: give letters, digits, '-', '_' and '.' without spaces."
        )
    return options


def publish(arguments: Namespace) -> int:
    """Run ``publish``."""
    options = publish_options(arguments)
    from video_snl.commands.publish import publish
    from video_snl.runs.trained import find_trained

    trained = find_trained(options.checkpoint)
    return publish(trained, output=options.output, licence=options.licence, name=options.name)
