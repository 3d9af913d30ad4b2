"""What a person's browser does, as far as tests of whole installations need one."""

from __future__ import annotations

import socket
import urllib.error
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, Request, build_opener


class Browser:
    """Cookies and nothing else; redirects are answers here, not followed."""

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *args: object) -> None:
            return None

    def __init__(self) -> None:
        self.cookies = CookieJar()
        self.opener = build_opener(HTTPCookieProcessor(self.cookies), self.Stay())

    def ask(self, url: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Return the status, and where a redirect leads."""
        data = None if form is None else urlencode(form).encode()
        try:
            with self.opener.open(Request(url, data, {"Referer": url}), timeout=10) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Location", "")

    def post(self, url: str, **form: str) -> tuple[int, str]:
        token = next(c.value for c in self.cookies if c.name.startswith("beatkeeper_csrf"))
        return self.ask(url, {"csrfmiddlewaretoken": token or "", **form})


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
