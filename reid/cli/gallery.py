"""``reid gallery``: the commands of galleries that are kept. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from reid.cli.common import Threshold, running
from reid.cli.evaluate import Metric
from video_snl.config.options import Json, option, option_group, positional
from video_snl.config.parsing import Command, Commands, run_command

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["GALLERY", "GALLERY_COMMANDS", "Group", "gallery", "run_gallery_command"]

GALLERY = """Keep a gallery of features: in a folder, or in a PostgreSQL database.
Tracklets by name, with their features, to add to, to remove from and to search, from feature files
of reid extract. GALLERY is a folder, or postgresql://USER@HOST/DATABASE#NAME (without #NAME it is
called gallery), which needs the extra packages of video-snl[postgres]. Passwords stand in ~/.pgpass
(or PGPASSFILE), in a service (PGSERVICE) or in PGPASSWORD, never in the address. Each command is
done as a whole or not at all: create, add, remove, search, stats, verify, export.
Exit code 0: done, also where nothing was found or to be removed; 1: verify found something; 2: bad
input, no server, or a full disk, and nothing has changed (where a connection was lost: all or
nothing, so give the command again)."""


@option_group
class Group:
    """Options of ``reid gallery`` itself: there are none, its commands have their own."""


@option_group
class _Gallery:
    """The gallery.

    Args:
        gallery: Folder, or postgresql://USER@HOST/DATABASE#NAME.
    """

    gallery: str = positional("GALLERY")


@option_group
class _Features(Json):
    """Features that are added.

    Args:
        features: Feature files of reid extract; the tracklets' names are the keys.
        times: CSV file with the columns name and time, for tracklets whose time is known: seconds
            since 1970, or ISO 8601 (UTC where no zone is named). Default: no times.
    """

    features: list[str] = positional("FILE", nargs="+")
    times: str | None = option(metavar="CSV")


@option_group
class _Only:
    """The entries that are meant: those of which all holds.

    Args:
        person: Name of an identity; may be repeated, for any of several. Default: all.
        camera: Name of a camera, likewise.
        after: First time, as seconds since 1970 or ISO 8601; entries without a time are then left
            out. Default: any.
        before: End of the times, itself not included. Default: any.
    """

    person: list[str] = option([], metavar="NAME", action="append")
    camera: list[str] = option([], metavar="NAME", action="append")
    after: str | None = option(metavar="TIME")
    before: str | None = option(metavar="TIME")


@option_group
class Create(_Features, Metric, _Gallery):
    """Options of ``create``.

    Args:
        index: auto compares queries with every entry up to 100,000 entries, and has an IVF index
            beyond; flat always compares with every entry; ivf and hnsw are approximate.
        empty: Take only the network from the files, and none of the tracklets.
    """

    index: Literal["auto", "flat", "ivf", "hnsw"] = "auto"
    empty: bool = False


@option_group
class Add(_Features, _Gallery):
    """Options of ``add``."""


@option_group
class Remove(Json, _Gallery):
    """Options of ``remove``.

    Args:
        names: Names of tracklets.
        names_from: Text file with a name in each line. Default: only those that are given.
    """

    names: list[str] = positional("NAME", nargs="*")
    names_from: str | None = option(metavar="FILE")


@option_group
class Search(Json, Threshold, _Only, _Gallery):
    """Options of ``search``.

    Args:
        queries: Feature files of reid extract. For folders and videos, see reid search --gallery.
        top: How many tracklets to list.
        exact: Compare with every entry although there is an index; filtered searches do always.
    """

    queries: list[str] = positional("FILE", nargs="+")
    top: int = 10
    exact: bool = False


@option_group
class Stats(Json, _Gallery):
    """Options of ``stats``."""


@option_group
class Verify(Json, _Gallery):
    """Options of ``verify``.

    Args:
        searches: How many entries to search for.
        against: Another gallery, in a folder or a database, that should hold the same entries and
            give the same answers; default none.
    """

    searches: int = 20
    against: str | None = option(metavar="GALLERY")


@option_group
class Export(_Only, _Gallery):
    """Options of ``export``.

    Args:
        output: Feature file (parquet) to write, in the order of the names.
        times: CSV file of the known times to write, too; default none.
    """

    output: str = option(short="-o", required=True, metavar="FILE")
    times: str | None = option(metavar="CSV")


def run_gallery_command(words: Sequence[str]) -> int:
    """Run one of the commands of ``reid gallery``; returns its exit code."""
    return run_command("reid gallery", GALLERY, GALLERY_COMMANDS, words, lambda _, __, given: given)


def gallery(arguments: Namespace) -> int:
    """Say what commands there are, to whom gives none."""
    return run_gallery_command(arguments.words)


def _command(description: str, kind: type[Any], extras: tuple[str, ...] = ("reid",)) -> Command:
    name = kind.__name__.lower()
    run = running(kind, f"reid.galleries.commands.run_{name}")
    return Command(description, kind, run, extras=extras)


GALLERY_COMMANDS: Commands = {
    "create": _command(
        "Create a gallery of the network of some feature files, with their tracklets.", Create
    ),
    "add": _command(
        "Add the tracklets of feature files.\n"
        "Those that are there already stay as they are, so a command that was interrupted can be "
        "given again; the same name with another vector is refused, and nothing is added.",
        Add,
    ),
    "remove": _command("Remove tracklets by their names.", Remove),
    "search": _command("Find the tracklets that are nearest to those of feature files.", Search),
    "stats": _command("Show the network, the size and the hash of a gallery.", Stats),
    "verify": _command(
        "Read a whole gallery, and compare counts, hashes and a sample of searches.\n"
        "Exit code 0: all is right; 1: something is not; 2: bad input.",
        Verify,
    ),
    "export": _command("Write the tracklets of a gallery to a feature file.", Export),
}
