"""What every request has to pass before anything else sees it, and the headers that every answer carries.

1. Host: the name in the request's Host header is one of ours. A page on another site can make a browser send requests
   to this machine under a name of its own (DNS rebinding); it cannot change that header.
2. Origin: a request that another site's page started is refused.
3. Token: where the server listens beyond this machine, a secret, as `Authorization: Bearer ...`, as a cookie, or once
   as `?token=...`, which becomes the cookie.
"""

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
COOKIE = "secondlens-token"
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Access:
    """Who may ask. hosts: names in the Host header, None for any IP address. token: the secret, or None for none."""

    hosts: frozenset[str] = LOOPBACK
    any_address: bool = False
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, host: str, names: Iterable[str] = (), token: str | None = None) -> "Access":
        """For a server that listens on `host`: this machine only needs no token, anything else gets or makes one."""
        local = is_loopback(host)
        extra = frozenset(name.lower() for name in names)
        if local:
            return cls(LOOPBACK | extra, any_address=False, token=token)
        return cls(
            LOOPBACK | extra | {_bracketed(host.lower())}, any_address=True, token=token or secrets.token_urlsafe(24)
        )

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server."""
        name = host_name(host)
        return name in self.hosts or (self.any_address and _is_address(name.strip("[]")))


class Guard:
    """ASGI middleware: the checks above, and the headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store" if scope["path"].startswith("/api") else "no-cache")
            await send(message)

        refused = self._refusal(scope)
        await (refused or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.access.knows(host):
            return _refuse(421, f"this server is not {host[:100]!r}; add it with --allow-host if it is")
        origin = headers.get("origin")
        if origin is not None and host_name(urlsplit(origin).netloc) != host_name(host):
            return _refuse(403, "requests from other sites' pages are refused")
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"].startswith("/api"):
            return _refuse(403, "requests from other sites' pages are refused")
        return self._without_token(scope, headers)

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self.access.token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and self._right(given):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            # Of the path only what the server was asked for: never "//elsewhere", which would be another site.
            path = "/" + scope["path"].lstrip("/")
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", path="/")
            return answer
        if self._right(_bearer(headers)) or self._right(_cookie(headers)):
            return None
        refused = _refuse(401, "a token is needed: open the address that 'secondlens view' printed")
        refused.headers["www-authenticate"] = "Bearer"
        return refused

    def _right(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), (self.access.token or "").encode())


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def host_name(host: str) -> str:
    """The name of a Host header without its port, in lower case; IPv6 addresses in brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bearer(headers: Headers) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else None


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"detail": why}, status)
