"""Another distribution that has written its files over the package ``reid`` of this one.

The index has one that is called reid, too. Whichever of the two is installed last has its files in
the folder ``reid``, and uninstalling one removes those of the other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["other_owner", "say_other_owner"]

_FILE = "reid/__init__.py"
_PACKAGES = ("site-packages", "dist-packages")


def say_other_owner() -> bool:
    """Say once what to do where another distribution has files of ``reid``; tell if one has."""
    owner = other_owner()
    if owner is None:
        return False
    from video_snl.utils.text import say_once

    say_once(
        f"video-snl: {owner} has written its files over our package reid: pip uninstall reid, then "
        "reinstall video-snl (pip install --force-reinstall --no-deps video-snl)"
    )
    return True


def other_owner(folders: Iterable[str] | None = None) -> str | None:
    """Return name and version of another distribution that has files of ``reid``, if there is one.

    Only names of folders are looked at, unless one is that of such a distribution: every import of
    the package asks this.

    Args:
        folders: Folders with installed distributions; default those of Python, and the one that
            this package is in.
    """
    for folder in dict.fromkeys(_folders() if folders is None else folders):
        try:
            names = os.listdir(folder)
        except OSError:  # an entry of sys.path need not exist
            continue
        for name in names:
            if name[:5].lower() == "reid-" and name.endswith((".dist-info", ".egg-info")):
                owner = _owner(os.path.join(folder, name))
                if owner is not None:
                    return owner
    return None


def _folders() -> list[str]:
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [own, *(path for path in sys.path if os.path.basename(path) in _PACKAGES)]


def _owner(info: str) -> str | None:
    """Return name and version of the distribution with this metadata, if it has our file."""
    from importlib.metadata import Distribution
    from pathlib import Path

    found = Distribution.at(Path(info))
    if any(file.as_posix() == _FILE for file in found.files or ()):
        return f"{found.metadata['Name']} {found.version}"
    return None
