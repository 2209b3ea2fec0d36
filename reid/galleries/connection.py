"""Connections to PostgreSQL: addresses without passwords, TLS, and errors in one line."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from video_snl.errors import UserError
from video_snl.utils.text import escaped, printable

__all__ = ["Address", "connection", "parse_address"]

# What psycopg logs of a connection that was lost is in the error, too: one line is enough. Handlers
# of the user's own still get it.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

DEFAULT_NAME = "gallery"
_TIMEOUT = 10  # seconds for connecting
_LONGEST = 63  # bytes of a name of PostgreSQL
# All up to an @ that is not a port: unescaped, a password may hold any character.
_SECRET = re.compile(
    r"//[^/?#]*:[^/?#@]+@|//[^/?#:@\[]*:(?!\d*(?:[/?#,]|$))[^@].*@|[?&](?:ssl)?password=[^&#]",
    re.IGNORECASE,
)
_ELSEWHERE = (
    "leave it out, and give it by a password file (~/.pgpass, PGPASSFILE), a service (PGSERVICE) "
    "or the variable PGPASSWORD: others can read a command line"
)


@dataclass(frozen=True)
class Address:
    """Where a gallery is in a database.

    Attributes:
        shown: The address as it was given; it has no password.
        name: Name of the gallery, which is its schema.
        conninfo: Parameters of the connection, for libpq.
        checked: Whether TLS is asked for after connecting, since a service names the host.
    """

    shown: str
    name: str
    conninfo: str
    checked: bool


def parse_address(location: str) -> Address:
    """Read ``postgresql://USER@HOST:PORT/DATABASE?OPTIONS#NAME``.

    Without ``sslmode`` (or PGSSLMODE), a host that is not this machine must show a certificate for
    its name, of an authority that is known: ``verify-full``.

    Raises:
        UserError: There is a password in it, or it is no address.
    """
    if _SECRET.search(location):
        raise UserError(f"the address of the gallery has a password in it: {_ELSEWHERE}")
    if escaped(location) != location or "\0" in location:
        raise UserError(f"{printable(escaped(location))} is no address: it is not text in UTF-8")
    url, _, name = location.partition("#")
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise UserError(
            f"{location} is no address of a database ({_line(error)}): expected "
            "postgresql://USER@HOST/DATABASE#NAME"
        ) from error
    if given.get("password") or given.get("sslpassword"):
        raise UserError(f"the address of the gallery has a password in it: {_ELSEWHERE}")
    name = name or DEFAULT_NAME
    if len(name.encode()) > _LONGEST or "%" in name or name.lower().startswith("pg_"):
        raise UserError(
            f"{name[:80]!r} cannot be the name of a gallery: give one of at most {_LONGEST} bytes "
            "without % that does not begin with pg_"
        )
    said = "sslmode" in given or "PGSSLMODE" in os.environ
    of_service = "service" in given or "PGSERVICE" in os.environ
    if not said and not of_service and not _is_local(_host(given)):
        given["sslmode"] = "verify-full"
    if "connect_timeout" not in given and "PGCONNECT_TIMEOUT" not in os.environ:
        given["connect_timeout"] = str(_TIMEOUT)
    given = {"fallback_application_name": "reid gallery", **given, "client_encoding": "UTF8"}
    return Address(location, name, make_conninfo("", **given), of_service and not said)


@contextmanager
def connection(address: Address, *, write: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """Connect for one transaction, which is committed at the end, or undone by an error.

    Args:
        address: Where to.
        write: Whether something may be changed; else all that is read is of one moment.

    Raises:
        UserError: The server cannot be reached, or refuses; in one line.
    """
    with _reported(address, _cannot_connect):
        opened = psycopg.connect(address.conninfo, prepare_threshold=None)
    with _reported(address, _advised), opened as connected:
        if address.checked and not (_is_local(connected.info.host) or connected.pgconn.ssl_in_use):
            raise UserError(
                f"{address.shown}: the service leads to {connected.info.host} without TLS; set "
                "sslmode=verify-full in it, or write ?sslmode=disable into the address if that is "
                "what you want"
            )
        if not write:
            connected.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connected.read_only = True
        yield connected


def _host(given: dict[str, Any]) -> str:
    """Return the host that libpq takes, of the address or of the environment."""
    for name in ("hostaddr", "host"):
        found = given.get(name) or os.environ.get(f"PG{name.upper()}")
        if found:
            return str(found)
    return ""


def _is_local(hosts: str) -> bool:
    """Tell whether all hosts of a list are this machine: sockets and loopback addresses."""
    return all(
        not host
        or host.startswith(("/", "@"))
        or host in ("localhost", "::1")
        or re.fullmatch(r"127(\.\d+){3}", host)
        for host in hosts.split(",")
    )


@contextmanager
def _reported(address: Address, advised: Callable[[psycopg.Error], str]) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise UserError(f"{address.shown}: {advised(error)}") from error


_CONNECTING = (
    (
        r"password authentication failed|no password supplied",
        "check the user's name, and give the password by a password file (~/.pgpass, PGPASSFILE), "
        "a service (PGSERVICE) or the variable PGPASSWORD",
    ),
    (
        r"certificate|SSL|TLS",
        "the connection is to be protected by TLS: name the authority's certificate by "
        "?sslrootcert=FILE, or choose less by ?sslmode=require (any certificate) or disable",
    ),
    (r'database "[^"]*" does not exist', "make it with createdb, or name another one"),
    (r'role "[^"]*" does not exist', "name a user that there is: postgresql://USER@HOST/DATABASE"),
    (r"definition of service|service file", "name a service of ~/.pg_service.conf, PGSERVICEFILE"),
    ("", "check that the server runs and that host and port are right"),
)


def _cannot_connect(error: psycopg.Error) -> str:
    """Say in one line why there is no connection, and what helps."""
    said = _line(error)
    return f"{said}: {next(text for pattern, text in _CONNECTING if re.search(pattern, said))}"


def _advised(error: psycopg.Error) -> str:
    """Say in one line what failed on a connection, and what helps."""
    said = _line(error)
    if isinstance(error, errors.DiskFull):
        return (
            f"the server's disk is full ({said}); nothing has changed: make room there and give "
            "the command again"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return f"{said}: ask the owner of the database for that right (GRANT)"
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return f"{said}; nothing has changed: give the command again"
    if isinstance(error, psycopg.OperationalError) and not isinstance(
        error, errors.ConfigurationLimitExceeded | errors.InsufficientResources
    ):
        return (
            f"the connection was lost ({said}); the change was made as a whole or not at all: give "
            "the command again, which does only what is missing"
        )
    return f"the server refused ({said})"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
