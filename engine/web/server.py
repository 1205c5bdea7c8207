"""The web application: pages and their files, the questions that a page asks, errors as one JSON sentence.

`make_app(port, routes)` is all of it; `page`, `question` and `streamed` make the routes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from az.engine.errors import AzError, WrongRequest
from az.engine.web.security import Guard

STATIC = Path(__file__).resolve().parent / "static"
MOST_BODY = 1 << 20  # bytes of a request
ending = threading.Event()  # set when the server is to end: answers that come in lines end then
Json = dict[str, Any]


def make_app(port: int, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application on this port of the local address. routes: of pages and questions, before the files' own."""
    own = [Mount("/static", StaticFiles(directory=STATIC)), Route("/favicon.ico", _no_icon)]
    handlers: dict[Any, Any] = {AzError: _expected, HTTPException: _http, Exception: _unexpected}
    return Guard(Starlette(routes=[*routes, *own], exception_handlers=handlers), port)  # outermost: errors pass it too


def page(path: str, file: str) -> Route:
    """The route of a page: an HTML file of the static folder."""

    def respond(_: Request) -> Response:
        return FileResponse(STATIC / file, media_type="text/html")

    return Route(path, respond)


def question(path: str, answer: Callable[[Json], Awaitable[Any] | Any]) -> Route:
    """A route for POST with a JSON object, answered by JSON. `answer` runs in a thread; an AzError becomes 400."""
    from starlette.concurrency import run_in_threadpool

    async def respond(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(answer, await json_body(request)))

    return Route(path, respond, methods=["POST"])


def streamed(path: str, answers: Callable[[Json], Awaitable[AsyncIterator[Json]]]) -> Route:
    """A route for POST with a JSON object, answered by JSON lines as they come, until the client leaves."""

    async def respond(request: Request) -> Response:
        found = await answers(await json_body(request))

        async def lines() -> AsyncIterator[bytes]:
            async for answer in found:
                if ending.is_set():
                    return
                yield json.dumps(answer).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return Route(path, respond, methods=["POST"])


async def body_of(request: Request, most: int = MOST_BODY) -> bytes:
    """The request's bytes. Raises WrongRequest where there are more than `most`."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise WrongRequest(f"the request is larger than {most >> 10} KiB: send less.")
        parts.append(part)
    return b"".join(parts)


async def json_body(request: Request) -> Json:
    """The JSON object that a request holds. Raises WrongRequest."""
    try:
        found = json.loads(await body_of(request))
    except (ValueError, RecursionError):
        raise WrongRequest("the request is not JSON: send an object.") from None
    if not isinstance(found, dict):
        raise WrongRequest("the request is JSON, but not an object: send one.")
    return cast("Json", found)


def _no_icon(_: Request) -> Response:
    return Response(status_code=204)


def _expected(_: Request, error: AzError) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400 if isinstance(error, WrongRequest) else 422)


def _http(request: Request, error: HTTPException) -> Response:
    sentence = "there is no such page here." if error.status_code == 404 else f"{error.detail}."
    if request.url.path.startswith("/api/") or error.status_code != 404:
        return JSONResponse({"error": sentence}, status_code=error.status_code)
    return FileResponse(STATIC / "missing.html", status_code=404, media_type="text/html")


def _unexpected(_: Request, error: Exception) -> Response:
    kind = type(error).__name__
    return JSONResponse({"error": f"the server tripped ({kind}): the terminal shows where."}, status_code=500)
