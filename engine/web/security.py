"""What keeps other pages, and other machines, from the local server.

It answers requests to its own address alone (a page that has its name point here, DNS rebinding, is refused), takes
posts from its own pages alone, and its pages may load and run nothing but what the server itself sends.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
NAMES = ("127.0.0.1", "localhost", "[::1]")


def hosts_of(port: int) -> frozenset[str]:
    """The values of the header Host that mean this server."""
    return frozenset({*(f"{name}:{port}" for name in NAMES), *(NAMES if port == 80 else ())})


def fault_of(method: str, headers: Mapping[str, str], hosts: frozenset[str]) -> str | None:
    """Why a request is refused, in a sentence; None where it may pass. headers: with lower-case names."""
    host = headers.get("host", "").lower()
    if host not in hosts:
        return "this server answers requests to its own address alone: open it as http://127.0.0.1 with its port."
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{name}" for name in hosts}:
        return "this server takes requests of its own pages alone: another page has sent this one."
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "this server takes requests of its own pages alone: another page has sent this one."
    if method in ("GET", "HEAD"):
        return None
    if method != "POST":
        return f"this server knows no {method[:10]} requests."
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/octet-stream"):  # no form of another page can send these
        return "a request must be JSON: send it with Content-Type application/json."
    return None


class Guard:
    """ASGI middleware: refuses what `fault_of` names (403, a JSON sentence), and puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.hosts = app, hosts_of(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        fault = fault_of(request.method, request.headers, self.hosts)
        answer = self.app if fault is None else JSONResponse({"error": fault}, status_code=403)
        await answer(scope, receive, send_with_headers)
