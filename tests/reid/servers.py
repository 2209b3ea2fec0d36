"""PostgreSQL servers for the tests: of the wheel pgserver, with pgvector, and of the system."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_SYSTEM = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "correct horse"


class Server:
    """A server of the wheel, which can be killed and started again.

    Attributes:
        folder: Its data.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there need be no folder of the session
            import pgserver

            self.folder = Path(tempfile.mkdtemp(prefix="video-snl-pg-"))
            self._server: Any = pgserver.get_server(self.folder)

    @property
    def url(self) -> str:
        """Address of its database."""
        return str(self._server.get_uri())

    def kill(self) -> None:
        """Kill all its processes at once, with SIGKILL."""
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:  # of a connection that ended meanwhile
                continue
        psutil.wait_procs(family, timeout=30)

    def start(self) -> None:
        """Start it again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it and remove its data."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def new_server() -> Server:
    """Start a server; skips where the wheel is not installed, or does not run here."""
    pytest.importorskip("pgserver", reason="the wheel pgserver is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        return Server()
    except (subprocess.SubprocessError, OSError, PermissionError) as error:
        pytest.skip(f"the server of pgserver does not start here: {error}")


@dataclass(frozen=True)
class SystemServer:
    """A server of the system's packages, with passwords and TLS, and without pgvector.

    Attributes:
        port: Its port, on all addresses of this machine.
        authority: Certificate that its own is signed with (itself), for ``localhost``.
    """

    port: int
    authority: Path

    def url(self, host: str = "localhost", options: str = "") -> str:
        """Return an address of its database for the user ``reader``."""
        return f"postgresql://reader@{host}:{self.port}/postgres{options}"


@contextmanager
def system_server() -> Iterator[SystemServer]:
    """Start one; skips where it is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if not (_SYSTEM / "initdb").exists() or shutil.which("openssl") is None:
        pytest.skip(f"PostgreSQL 15 of the system ({_SYSTEM}) or openssl is not installed")
    folder = Path(tempfile.mkdtemp(prefix="video-snl-tls-"))
    data, authority = folder / "data", folder / "server.crt"
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # whom PostgreSQL refuses
        account = pwd.getpwnam("postgres")
        owner = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(*words: object) -> None:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            **owner,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(_SYSTEM / "initdb", "-D", data, "-U", "owner", "--auth=trust", "-E", "UTF8", "-N")
    run(
        *("openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "rsa:2048"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", folder / "server.key", "-out", authority),
    )
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(
            f"port = {port}\nlisten_addresses = '*'\nunix_socket_directories = '{folder}'\n"
            f"ssl = on\nssl_cert_file = '{authority}'\nssl_key_file = '{folder}/server.key'\n"
            "fsync = off\n"
        )
    (data / "pg_hba.conf").write_text("local all owner trust\nhost all all all scram-sha-256\n")
    start = ("start", "-w", "-l", folder / "log")
    run(_SYSTEM / "pg_ctl", "-D", data, *start)
    try:
        create = f"CREATE ROLE reader LOGIN SUPERUSER PASSWORD '{PASSWORD}'"
        words = ("-h", folder, "-p", port, "-U", "owner", "-d", "postgres", "-c", create)
        run(_SYSTEM / "psql", *words)
        yield SystemServer(port, authority)
    finally:
        run(_SYSTEM / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def own_address() -> str:
    """Return an address of this machine that is not a loopback one; skips where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # of documentation: nothing is sent
        except OSError:
            pytest.skip("this machine has no address of a network")
        address = str(probe.getsockname()[0])
    if address.startswith("127."):
        pytest.skip("this machine has no address of a network")
    return address
