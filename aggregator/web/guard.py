"""What every answer over HTTP has in common: strict headers, one sentence where something is wrong.

While it listens on loopback, only names of loopback are answered to: a page elsewhere whose name
was made to point here would otherwise be taken for ours by a browser.
"""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that a response does not set itself."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def guard(host: str) -> Middleware:
    """Return the middleware of a server that listens on this host."""
    only_loopback = is_loopback(host)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Host")
        if only_loopback and asked is not None and not is_loopback(_name(asked)):
            text = "Host is not allowed: this aggregator listens on loopback and answers to it only"
            return web.Response(status=421, text=text)
        try:
            return await handler(request)
        except web.HTTPNotFound as error:
            if error.text == f"{error.status}: {error.reason}":
                error.text = "there is no such page"
            raise
        except web.HTTPMethodNotAllowed as error:
            error.text = "nothing can be changed here: only GET and HEAD are allowed"
            raise

    return guarded


def is_loopback(host: str) -> bool:
    """Say whether a name or address is one of this very machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """Return the name in a Host header, without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
