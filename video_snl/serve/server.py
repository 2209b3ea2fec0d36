"""The server: it takes a port, starts, and ends in order."""

from __future__ import annotations

import ipaddress
import logging
import math
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from video_snl.data.image.reading import check_max_pixels
from video_snl.errors import UserError
from video_snl.serve.jobs import Jobs
from video_snl.serve.service import Limits, Service

if TYPE_CHECKING:
    import uvicorn

__all__ = ["check_options", "serve"]

_PLACES = 8  # uploads at once, all but one of them waiting
_GRACE = 1  # seconds to the clients, at the end
_ENDINGS = {signal.SIGTERM: 143, signal.SIGHUP: 129}


def check_options(port: int, limits: Limits, deadline: float | None) -> None:
    """Refuse options out of their range before anything is loaded.

    Raises:
        UserError: It names the option.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: give a number from 1 to 65535, or 0 for any free one.")
    if not 0 < limits.megabytes < math.inf:
        raise UserError(f"--max_size {limits.megabytes:g}: give megabytes, more than 0.")
    if not limits.seconds > 0:
        raise UserError(f"--max_seconds {limits.seconds:g}: give seconds, more than 0.")
    if not 0 < limits.upload_seconds < math.inf:
        raise UserError(
            f"--max_upload_seconds {limits.upload_seconds:g}: give seconds, more than 0."
        )
    if limits.max_pixels is not None:
        check_max_pixels("--max_pixels ", limits.max_pixels)
    if deadline is not None and not deadline > 0:
        raise UserError(f"--deadline {deadline}: give seconds, more than 0.")


def serve(make: Callable[[], Service], *, host: str, port: int, limits: Limits) -> NoReturn:
    """Show the page until a signal comes. Whatever was uploaded is removed then, at the latest.

    Args:
        make: Loads the network.
        port: 0 is any that is free.

    Raises:
        UserError: The port cannot be had, or what ``make`` raises.
        KeyboardInterrupt: At Ctrl-C.
        SystemExit: With 143 at SIGTERM, and 129 at SIGHUP.
    """
    with (
        _ending_in_order(),
        closing(_listen(host, port)) as listening,
        tempfile.TemporaryDirectory(prefix="video-snl-serve-") as folder,
    ):
        _run(make(), listening, host, limits, Path(folder))
    raise RuntimeError("the web server has ended by itself")


def _run(
    service: Service, listening: socket.socket, host: str, limits: Limits, folder: Path
) -> None:
    import uvicorn

    from video_snl.serve.app import make_app

    # What is wrong with an upload is said on the page.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

    jobs = Jobs(_PLACES)
    app = make_app(service, limits, jobs, folder, _names(host))
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_serve, args=(server, listening, jobs), daemon=True)
    thread.start()
    try:
        _announce(service, host, listening.getsockname()[1], server)
        jobs.run()
    finally:
        for number in (signal.SIGINT, *_ENDINGS):
            signal.signal(number, signal.SIG_IGN)  # a second one would leave files behind
        jobs.end()
        server.should_exit = True
        thread.join()


def _serve(server: uvicorn.Server, listening: socket.socket, jobs: Jobs) -> None:
    try:
        server.run(sockets=[listening])
    finally:
        jobs.end()


def _announce(service: Service, host: str, port: int, server: uvicorn.Server) -> None:
    """Say where the page is, once it can be opened."""
    while not server.started and not server.should_exit:
        time.sleep(0.02)
    if not _is_local(host):
        print(
            f"warning: --host {host}: whoever reaches this machine over the network can use the "
            "page and its network, without a password.",
            file=sys.stderr,
            flush=True,
        )
    shown = f"[{host}]" if ":" in host else host
    print(f"{service.about}\npage: http://{shown}:{port}  (Ctrl-C ends it)", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port} cannot be had ({error.strerror or error}): choose "
            "another --port (0 is any free one)"
        ) from error


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> list[str]:
    """Return the names under which the page may be asked for."""
    return [host, "localhost", "127.0.0.1", "[::1]", "::1"] if _is_local(host) else ["*"]


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let signals unwind what is under way, so that no file is left."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(_ENDINGS[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in _ENDINGS}
    before[signal.SIGINT] = signal.getsignal(signal.SIGINT)  # type: ignore[assignment]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
