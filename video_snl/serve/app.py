"""The web page: it shows a form, takes uploads and tells how far they are."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from video_snl.errors import UserError
from video_snl.serve.jobs import Busy, Job, Jobs
from video_snl.serve.service import Answer, Limits, Service
from video_snl.serve.uploads import TooLarge, TooSlow, UploadRequest
from video_snl.utils.json_text import to_json
from video_snl.utils.pages import page_templates

__all__ = ["make_app"]

_LOOK = 0.3  # seconds between two looks at the queue
# Uploads that are received at once. They are not the places of the queue, which only whole uploads
# take: who sends slowly keeps nobody else from being answered.
_RECEIVED = 32
_PATIENCE = 60.0  # seconds to receive the rest of an upload that is refused
# The pages inside the answer inherit this policy, hence scripts and styles within the page.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; media-src blob: mediastream:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(
    service: Service, limits: Limits, jobs: Jobs, folder: Path, hosts: Sequence[str]
) -> Starlette:
    """Return the application.

    Args:
        jobs: Somebody runs them.
        folder: Folder in which uploads are kept until they are answered.
        hosts: Names under which the page may be asked for; ``*`` is any. Otherwise a page of
            somebody else, whose name leads here, could read the answers.
    """
    return Starlette(
        routes=[
            Route("/", partial(_page, _render(service, limits))),
            Route("/ask", _Asking(service, limits, jobs, folder), methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
    )


def _render(service: Service, limits: Limits) -> str:
    environment = page_templates("video_snl.serve")
    assert environment.loader is not None
    script = environment.loader.get_source(environment, "serve.js")[0]
    return environment.get_template("serve.html").render(
        service=service, limits=limits, script=script
    )


async def _page(html: str, request: Request) -> Response:
    return HTMLResponse(html, headers=_HEADERS)


class _Asking:
    """Answers an upload with lines of JSON: how far it is, then the answer or what is wrong."""

    def __init__(self, service: Service, limits: Limits, jobs: Jobs, folder: Path) -> None:
        self._service, self._limits = service, limits
        self._jobs, self._folder = jobs, folder
        self._receiving = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = UploadRequest(scope, receive, self._limits)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: UploadRequest) -> Response:
        try:
            if not _same_origin(request):
                return _refused(403, "uploads are taken from this page alone")
            job = await self._received(request)
        except TooLarge as error:
            return await _drained(request, _refused(413, str(error)))
        except Busy as error:
            return await _drained(request, _refused(503, str(error)))
        except TooSlow as error:
            return _refused(408, str(error), Connection="close")
        except UserError as error:
            return _refused(400, str(error))
        except ClientDisconnect:
            return _refused(400, "the upload was broken off")
        except OSError as error:
            return _refused(507, f"the upload cannot be stored ({error.strerror or error})")
        lines = _states(self._jobs, job)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=_HEADERS)

    async def _received(self, request: UploadRequest) -> Job:
        """Store the upload and queue it; its place and folder are given back when it is done."""
        self._jobs.check()
        if self._receiving >= _RECEIVED:
            raise Busy("too many uploads are being received: try again in a minute")
        given_back = ExitStack()
        with given_back:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            given_back.callback(shutil.rmtree, folder)
            self._receiving += 1
            try:
                files = await request.store(folder)
            finally:
                self._receiving -= 1
            self._jobs.enter()
            given_back.callback(self._jobs.leave)
            done = given_back.pop_all().close
        job = Job(partial(_answer, self._service, files, folder), done)
        self._jobs.submit(job)
        return job


def _answer(service: Service, files: Sequence[Path], folder: Path) -> Answer:
    """Answer an upload; messages name its files as they were uploaded."""
    try:
        return service.answer(files)
    except UserError as error:
        message = " ".join(str(error).split())
        for place in [*{file.parent for file in files}, folder]:
            message = message.replace(f"{place}/", "")
        raise UserError(message) from error


def _same_origin(request: Request) -> bool:
    """Tell whether an upload comes from this page (or no page), and not from somebody else's.

    Raises:
        UserError: The header that says so is malformed.
    """
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError as error:
        raise UserError("the header Origin is malformed: upload from this page") from error


async def _states(jobs: Jobs, job: Job) -> AsyncIterator[str]:
    """Yield lines of JSON; whoever no longer listens gives up a place in the queue."""
    said = None
    ended = asyncio.Event()
    tell = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
    job.future.add_done_callback(lambda _: tell())
    try:
        while not ended.is_set():
            state = {"state": "waiting", "ahead": jobs.ahead(job)}
            if state != said:
                said = state
                yield to_json(state) + "\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LOOK)
        yield to_json(_end_of(job)) + "\n"
    finally:
        jobs.cancel(job)


def _end_of(job: Job) -> dict[str, Any]:
    try:
        return {"state": "answered", **job.future.result().plain()}
    except UserError as error:
        return {"state": "failed", "message": str(error)}
    except CancelledError:
        return {"state": "failed", "message": "the page has been stopped"}


def _refused(code: int, message: str, **headers: str) -> Response:
    content = {"state": "failed", "message": message}
    return JSONResponse(content, code, headers={**_HEADERS, **headers})


async def _drained(request: UploadRequest, response: Response) -> Response:
    """Return the response once the rest of the body has come, but do not wait for ever."""
    with suppress(TimeoutError, TooSlow, ClientDisconnect):
        async with asyncio.timeout(_PATIENCE):
            await request.drain()
    return response
