"""From an application to a page in the browser: a free port of the local address, the URL, a clean end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from az.engine.errors import WrongRequest
from az.engine.web.server import ending

HOST = "127.0.0.1"
USUAL_PORT = 8420  # tried first: a page that is still open finds a server that was started again
GRACE = 2  # seconds that open requests have to end; one that waits looks every half second
THREADS_END = 1  # seconds that threads have to end after that


def bind(port: int | None) -> socket.socket:
    """A socket on this port of the local address; None: the usual port, else any that is free. Raises WrongRequest."""
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name != "nt":  # on Windows this lets two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, candidate))
            bound.listen(128)
        except OSError as error:
            bound.close()
            if port is not None:
                raise WrongRequest(f"port {port} cannot be used ({error.strerror}): give another --port.") from None
            continue
        return bound
    raise WrongRequest("no port of 127.0.0.1 is free: close a program that uses one.")


def serve(
    make: Callable[[int], ASGIApp],
    port: int | None = None,
    path: str = "/",
    browser: bool = True,
    ready: Callable[[], None] | None = None,
) -> int:
    """Serve until Ctrl-C; returns the exit code: 0, or 128 and the number of another signal that ended it.

    make: the application for the port that was found. path: of the page that is opened. browser: open it, where there
    is one. ready: called once the server answers. Raises WrongRequest for a port that is taken.
    """
    ending.clear()
    bound = bind(port)
    number = int(bound.getsockname()[1])
    url = f"http://{HOST}:{number}{path}"
    config = uvicorn.Config(
        make(number), log_level="warning", access_log=False, lifespan="off", ws="none", http="h11", loop="asyncio",
        timeout_graceful_shutdown=GRACE, server_header=False, proxy_headers=False,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(_tells)

    class Server(uvicorn.Server):
        """Says where it is once it listens."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            ending.set()
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"az is at {url} (Ctrl-C ends it)", flush=True)
            if browser:
                threading.Thread(target=_open, args=(url,), daemon=True).start()
            if ready is not None:
                ready()

    server, asked = Server(config), list[int]()
    with _signals(server, asked):
        server.run(sockets=[bound])
    print("\nStopped." if sys.stdout.isatty() else "Stopped.", flush=True)
    return next((128 + found for found in asked if found != signal.SIGINT), 0)


def threads_left() -> bool:
    """Whether a thread that Python would wait for goes on: one that answers a question keeps it from ending."""
    until = time.monotonic() + THREADS_END
    found = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    for one in found:
        one.join(max(0.0, until - time.monotonic()))
    return any(one.is_alive() for one in found)


@contextmanager
def _signals(server: uvicorn.Server, asked: list[int]) -> Generator[None]:
    """Note the signals that ended the server, which uvicorn raises again when it has closed; a closed terminal ends it
    too. Without this SIGTERM would kill the process before it has ended what it started.
    """

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)
        ending.set()
        server.should_exit = True

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup; not on Windows
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tells(_: logging.LogRecord) -> bool:
    """Whether uvicorn's line is shown: not while it ends, when it tells of every client that reads no more."""
    return not ending.is_set()


def _open(url: str) -> None:
    """Open the page, where there is a browser with a window: one in this terminal would take it over.

    In a process of its own: a browser that is started keeps what its parent writes to, so a pipe would never end.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    silent = subprocess.DEVNULL
    subprocess.run(
        [sys.executable, "-m", "webbrowser", url], stdin=silent, stdout=silent, stderr=silent,
        start_new_session=True, check=False,
    )  # fmt: skip
