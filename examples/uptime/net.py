"""Connections under one deadline, from the first byte to the last. Pure: no Django.

A socket's own timeout begins anew with every byte, so a server that drips would hold a probe for
ever. Here each operation gets what is left of the whole. Looking up a name is the exception: it
takes as long as the resolver of the machine allows itself; the job's limits are above it.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urljoin, urlsplit

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODY_LIMIT = 1024 * 1024
PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
SCHEMES = (*PORTS, "unix", "tcp")


class Deadline:
    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Give the seconds that are left. Raises TimeoutError when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class Wire:
    """What `http.client` and we need of a connected socket, each use within the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline))

    def close(self) -> None:
        """Do nothing: `http.client` closes before it reads the body; the socket is its opener's."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address of `host` that answers."""
    failure: OSError = socket.gaierror(f"{host!r} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left())
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def connect_unix(path: str, deadline: Deadline) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(deadline.left())
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def connect_tls(host: str, port: int, deadline: Deadline) -> ssl.SSLSocket:
    """Connect and verify the server's certificate for `host`."""
    sock = connect(host, port, deadline)
    try:
        sock.settimeout(deadline.left())  # of the whole handshake
        return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except OSError:
        sock.close()
        raise


def split(address: str) -> SplitResult:
    """Read an address; `host:port` without a scheme is `tcp://host:port`. Raises ValueError."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in SCHEMES:
        raise ValueError(
            f"{address[:200]!r} cannot be probed; write host:port, or one of {', '.join(SCHEMES)}"
        )
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(f"{address!r} names no socket; write unix:///path/to/socket")
        return parts
    if not parts.hostname:
        raise ValueError(f"{address!r} names no host")
    port_of(parts)
    return parts


def port_of(parts: SplitResult) -> int:
    port = parts.port or PORTS.get(parts.scheme)
    if port is None:
        raise ValueError(f"{parts.netloc!r} names no port; write host:port")
    return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer; `body` is cut at BODY_LIMIT."""

    status: int
    body: bytes
    charset: str
    location: str
    etag: str = ""

    @property
    def mark(self) -> str:
        """What tells this answer from another: the status, and the ETag or the title of the page;
        without either, a digest of the body.
        """
        return f"{self.status} {self.etag or self._title() or self._digest()}"

    def _title(self) -> str:
        # No regular expression: on a page that is made for it, one would take hours.
        head, tag, rest = self.body.lower().partition(b"<title")
        title, end, _ = rest.partition(b"</title")
        if not (tag and end):
            return ""
        start = len(head) + len(tag)
        return self.body[start : start + len(title)].partition(b">")[2].decode("utf-8", "replace")

    def _digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def fetch(url: str, deadline: Deadline) -> Answer:
    """GET an http or https URL, following a few redirects, which stay with these two schemes.

    Raises OSError, http.client.HTTPException, ValueError.
    """
    for _ in range(MOST_REDIRECTS + 1):
        answer = _get(url, deadline)
        if not answer.location:
            return answer
        url = urljoin(url, answer.location)
    raise ValueError(f"redirected more than {MOST_REDIRECTS} times, at last to {url[:200]!r}")


def _get(url: str, deadline: Deadline) -> Answer:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url[:200]!r} is not an http or https address")
    port = port_of(parts)
    open_connection = connect_tls if parts.scheme == "https" else connect
    with closing(open_connection(parts.hostname, port, deadline)) as sock:
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = Wire(sock, deadline)  # all that it uses of a socket
        path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*")
        query = f"?{quote(parts.query, safe='/%:=&~+!$,;@()*?')}" if parts.query else ""
        host = parts.netloc.rpartition("@")[2].encode("idna").decode()
        headers = {"Host": host, "User-Agent": "beatkeeper-uptime", "Connection": "close"}
        connection.request("GET", path + query, headers=headers)
        with connection.getresponse() as response:
            return Answer(
                status=response.status,
                body=response.read(BODY_LIMIT),
                charset=response.headers.get_content_charset("utf-8"),
                etag=response.headers.get("ETag", ""),
                location=(
                    response.headers.get("Location", "") if response.status in REDIRECTS else ""
                ),
            )
