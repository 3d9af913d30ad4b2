"""The kinds of probes: each asks one question of one address. Pure: no Django, no database."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol, Self
from urllib.parse import unquote

from examples.uptime.net import (
    BODY_LIMIT,
    Deadline,
    Wire,
    connect,
    connect_tls,
    connect_unix,
    fetch,
    port_of,
    split,
)
from scheduling.errors import InvalidSpan
from scheduling.spans import format_span, parse_span

LONGEST_MESSAGE = 300
LONGEST_LINE = 512


class InvalidProbe(ValueError):
    """The probe contradicts itself; the message says how."""


class ProbeFailed(Exception):
    """The answer is not the expected one; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe found, and how long it took, connection included.

    `mark`: what it is to be compared by with what was found before.
    """

    ok: bool
    message: str
    response_ms: float
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found, in words, and its mark if the words are not what counts."""

    message: str
    mark: str = ""


class Probe(Protocol):
    schemes: ClassVar[frozenset[str]]

    @classmethod
    def read(cls, expects: str) -> Self:
        """Read the expectation as a person writes it; "" is the default. Raises InvalidProbe."""

    def check(self, address: str, deadline: Deadline) -> Seen:
        """Give what was found. Raises what is wrong: ProbeFailed, OSError, ..."""


HTTP = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """The status at the end of all redirects is one of `allowed`."""

    allowed: tuple[range, ...] = (range(200, 400),)
    schemes: ClassVar[frozenset[str]] = HTTP

    @classmethod
    def read(cls, expects: str) -> Self:
        if not expects:
            return cls()
        spans = []
        for part in expects.split(","):
            match = re.fullmatch(r"\s*([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?\s*", part)
            if match is None or (match[2] and match[2] < match[1]):
                raise InvalidProbe(
                    f"{part.strip()!r} is no HTTP status; write such as 200, 200-399 or 200,404"
                )
            spans.append(range(int(match[1]), int(match[2] or match[1]) + 1))
        return cls(tuple(spans))

    def check(self, address: str, deadline: Deadline) -> Seen:
        answer = fetch(address, deadline)
        if not any(answer.status in span for span in self.allowed):
            raise ProbeFailed(f"HTTP status {answer.status} instead of {self}")
        return Seen(f"HTTP status {answer.status}", answer.mark)

    def __str__(self) -> str:
        ends = ((span.start, span.stop - 1) for span in self.allowed)
        return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ends)


@dataclass(frozen=True, slots=True)
class BodyContains:
    """The first megabyte of a good answer contains `text`."""

    text: str
    schemes: ClassVar[frozenset[str]] = HTTP

    @classmethod
    def read(cls, expects: str) -> Self:
        if not expects:
            raise InvalidProbe("Write the text that the answer has to contain")
        return cls(expects)

    def check(self, address: str, deadline: Deadline) -> Seen:
        answer = fetch(address, deadline)
        if answer.status >= 400:
            raise ProbeFailed(f"HTTP status {answer.status}")
        try:
            body = answer.body.decode(answer.charset, "replace")
        except LookupError:  # a charset that nobody knows
            body = answer.body.decode("utf-8", "replace")
        if self.text not in body:
            where = "the answer"
            if len(answer.body) == BODY_LIMIT:
                where = f"the first {BODY_LIMIT} bytes of the answer"
            raise ProbeFailed(f"{self.text!r} is not in {where}")
        return Seen(f"contains {self.text!r}", answer.mark)


@dataclass(frozen=True, slots=True)
class ResponseTime:
    """A good answer, complete within `limit`."""

    limit: timedelta = timedelta(seconds=1)
    schemes: ClassVar[frozenset[str]] = HTTP

    @classmethod
    def read(cls, expects: str) -> Self:
        if not expects:
            return cls()
        match = re.fullmatch(r"([1-9][0-9]{0,5})(ms|s)", expects)
        if match is None:
            raise InvalidProbe(f"{expects!r} is no response time; write such as 800ms or 2s")
        amount = int(match[1])
        return cls(timedelta(**{"milliseconds" if match[2] == "ms" else "seconds": amount}))

    def check(self, address: str, deadline: Deadline) -> Seen:
        began = time.monotonic()
        answer = fetch(address, deadline)
        took = timedelta(seconds=time.monotonic() - began)
        if answer.status >= 400:
            raise ProbeFailed(f"HTTP status {answer.status}")
        if took > self.limit:
            raise ProbeFailed(f"took {_ms(took)} instead of at most {_ms(self.limit)}")
        return Seen(f"took {_ms(took)}", answer.mark)


@dataclass(frozen=True, slots=True)
class TlsExpiry:
    """A certificate that is trusted, for this host, and valid for `at_least` from now."""

    at_least: timedelta = timedelta(days=14)
    schemes: ClassVar[frozenset[str]] = frozenset({"https", "rediss", "tcp"})

    @classmethod
    def read(cls, expects: str) -> Self:
        if not expects:
            return cls()
        try:
            return cls(parse_span(expects))
        except InvalidSpan as error:
            raise InvalidProbe(str(error)) from error

    def check(self, address: str, deadline: Deadline) -> Seen:
        parts = split(address)
        assert parts.hostname is not None
        with closing(connect_tls(parts.hostname, port_of(parts), deadline)) as sock:
            certificate = sock.getpeercert() or {}
        ends = datetime.fromtimestamp(
            ssl.cert_time_to_seconds(str(certificate.get("notAfter", ""))), UTC
        )
        if ends - datetime.now(UTC) < self.at_least:
            raise ProbeFailed(
                f"certificate ends on {ends:%Y-%m-%d %H:%M} UTC, "
                f"in less than {format_span(self.at_least)}"
            )
        return Seen(f"certificate ends on {ends:%Y-%m-%d}")


@dataclass(frozen=True, slots=True)
class TcpConnect:
    """Somebody accepts connections there."""

    schemes: ClassVar[frozenset[str]] = frozenset({"tcp", "redis", "rediss", "unix", *HTTP})

    @classmethod
    def read(cls, expects: str) -> Self:
        _expects_nothing(expects)
        return cls()

    def check(self, address: str, deadline: Deadline) -> Seen:
        _open(address, deadline).close()
        return Seen("accepts connections")


@dataclass(frozen=True, slots=True)
class RedisPing:
    """A Redis or Valkey that lets us in and answers PING."""

    schemes: ClassVar[frozenset[str]] = frozenset({"redis", "rediss", "unix"})

    @classmethod
    def read(cls, expects: str) -> Self:
        _expects_nothing(expects)
        return cls()

    def check(self, address: str, deadline: Deadline) -> Seen:
        parts = split(address)
        with closing(_open(address, deadline)) as sock:
            wire = Wire(sock, deadline)
            replies = wire.makefile()
            if parts.password:
                user = [unquote(parts.username)] if parts.username else []
                wire.sendall(_command("AUTH", *user, unquote(parts.password)))
                _expect(replies.readline(LONGEST_LINE), b"+OK")
            wire.sendall(_command("PING"))
            _expect(replies.readline(LONGEST_LINE), b"+PONG")
        return Seen("answers PING")


KINDS: dict[str, type[Probe]] = {
    "http_status": HttpStatus,
    "body_contains": BodyContains,
    "response_time": ResponseTime,
    "tls_expiry": TlsExpiry,
    "tcp_connect": TcpConnect,
    "redis_ping": RedisPing,
}


def read(kind: str, expects: str, address: str) -> Probe:
    """Give the probe, if it can be asked of this address. Raises InvalidProbe."""
    try:
        scheme = split(address).scheme
    except ValueError as error:
        raise InvalidProbe(str(error)) from error
    probe = KINDS[kind]
    if scheme not in probe.schemes:
        raise InvalidProbe(
            f"{kind} cannot be asked of a {scheme} address; "
            f"it needs one of {', '.join(sorted(probe.schemes))}"
        )
    return probe.read(expects)


def default_kind(address: str) -> str:
    """Give the probe for an address of which nothing else is said. Raises InvalidProbe."""
    try:
        scheme = split(address).scheme
    except ValueError as error:
        raise InvalidProbe(str(error)) from error
    kinds = ("http_status", "redis_ping", "tcp_connect")
    return next(kind for kind in kinds if scheme in KINDS[kind].schemes)


def run(kind: str, expects: str, address: str, *, timeout: timedelta) -> ProbeResult:
    """Ask once; whatever goes wrong out there is the result, not an error."""
    began = time.monotonic()
    try:
        probe = read(kind, expects, address)
        seen = probe.check(address, Deadline(timeout.total_seconds()))
        ok = True
    except (ProbeFailed, OSError, http.client.HTTPException, ValueError) as error:
        seen, ok = Seen(reason_of(error, timeout)), False
    return ProbeResult(
        ok=ok,
        message=_one_line(seen.message),
        response_ms=(time.monotonic() - began) * 1000,
        mark=seen.mark or seen.message,
    )


def reason_of(error: Exception, timeout: timedelta) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate refused: {error.verify_message}"
        case TimeoutError():
            return f"no complete answer within {timeout.total_seconds():g} s"
        case ConnectionRefusedError():
            return "connection refused"
        case socket.gaierror():
            return "its name cannot be resolved"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
        case http.client.HTTPException():
            return f"not an HTTP answer ({type(error).__name__})"
    return str(error)


def _expects_nothing(expects: str) -> None:
    if expects:
        raise InvalidProbe(f"This kind of probe expects nothing; remove {expects!r}")


def _open(address: str, deadline: Deadline) -> socket.socket:
    parts = split(address)
    if parts.scheme == "unix":
        return connect_unix(unquote(parts.path), deadline)
    assert parts.hostname is not None
    through = connect_tls if parts.scheme == "rediss" else connect
    return through(parts.hostname, port_of(parts), deadline)


def _command(*words: str) -> bytes:
    """Write a command in the protocol of Redis."""
    items = [word.encode() for word in words]
    return b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in items)


def _expect(reply: bytes, wanted: bytes) -> None:
    if reply.rstrip(b"\r\n") != wanted:
        said = reply.decode("utf-8", "replace").strip()[:100]
        raise ProbeFailed(f"answered {said!r}" if said else "closed the connection")


def _ms(span: timedelta) -> str:
    return f"{span / timedelta(milliseconds=1):.0f} ms"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_MESSAGE]
