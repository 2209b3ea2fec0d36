"""Code of a user's own that a configuration names by its dotted path: when it may be imported.

To import a module runs it. A configuration that a user names may name such code, as a program may
be started; what a checkpoint, a run or a published folder names is imported only where the user
allows it: by ``--allow_code``, or ``allow_code=True`` in Python. Without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from video_snl.errors import UserError

__all__ = ["DottedPath", "allowing_code", "is_dotted", "named_code", "refuse_code"]

_allowed = ContextVar("allow_code", default=False)


class DottedPath(str):
    """Type of options whose value may be the path of a class, such as ``my_package.MyBlock``.

    It stands in annotations alone: the values are plain text.
    """


def is_dotted(text: str) -> bool:
    """Tell whether a text is the path of something in a module: two names or more, with dots."""
    parts = text.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


@contextmanager
def allowing_code(allowed: bool) -> Iterator[None]:
    """Let stored configurations name code of other packages, for what is called within.

    Args:
        allowed: Answer to ``--allow_code``; where it is False, all is as outside.
    """
    token = _allowed.set(_allowed.get() or allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def named_code(model: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of a network that name code of other packages, with their paths.

    Args:
        model: Options of the network.
    """
    options = model.get("block_options") or {}
    texts = {"block": model.get("block")} | {f"block_options.{k}": v for k, v in options.items()}
    # No name of ours has a dot.
    return {f"model.{k}": v for k, v in texts.items() if isinstance(v, str) and "." in v}


def refuse_code(model: Mapping[str, Any], source: object) -> None:
    """Refuse a stored network that is made by code of other packages, unless that is allowed.

    Args:
        model: Options of the network.
        source: File that they are from, for the message.

    Raises:
        UserError: It names the module, the option that names it, and how to allow it.
    """
    if _allowed.get():
        return
    for option, path in named_code(model).items():
        raise UserError(
            f"{source}: its {option} is {path}, of the module {path.rpartition('.')[0]}, which is "
            "imported and thereby run only if you say that you trust it: give --allow_code (in "
            "Python: allow_code=True)."
        )
