"""The probes of the uptime example, asked of real servers on this machine."""

from __future__ import annotations

import socket
import subprocess
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from examples.uptime import models, net, probes
from examples.uptime.probes import KINDS, InvalidProbe, ProbeResult
from tests.services import Valkey
from tests.unit.sockets import LOCALHOST, answering, dripping, page, server

QUICK = timedelta(seconds=0.5)
LONG = timedelta(seconds=20)


def ask(kind: str, address: str, expects: str = "", timeout: timedelta = LONG) -> ProbeResult:
    return probes.run(kind, expects, address, timeout=timeout)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody has signed, valid for 10 days, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    both = folder / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "10", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.fixture
def closed_port() -> int:
    with closing(socket.create_server((LOCALHOST, 0))) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_every_kind_has_a_name_for_people() -> None:
    assert set(KINDS) == set(models.KINDS)


# --- what is expected, as people write it


@pytest.mark.parametrize(
    ("expects", "good", "bad"),
    [
        pytest.param("", [200, 204, 304, 399], [199, 400, 500], id="default"),
        pytest.param("200", [200], [201], id="one"),
        pytest.param("200-299, 404", [200, 299, 404], [300, 403, 405], id="several"),
    ],
)
def test_statuses_are_read(expects: str, good: list[int], bad: list[int]) -> None:
    allowed = probes.HttpStatus.read(expects).allowed
    assert all(any(status in span for span in allowed) for status in good)
    assert not any(any(status in span for span in allowed) for status in bad)


@pytest.mark.parametrize(
    ("kind", "expects", "address"),
    [
        ("http_status", "299-200", "http://example.org"),
        ("http_status", "2xx", "http://example.org"),
        ("http_status", "99", "http://example.org"),
        ("body_contains", "", "http://example.org"),
        ("response_time", "1.5", "http://example.org"),
        ("response_time", "0s", "http://example.org"),
        ("tls_expiry", "soon", "https://example.org"),
        ("tls_expiry", "14d", "http://example.org"),
        ("tcp_connect", "yes", "example.org:22"),
        ("tcp_connect", "", "example.org"),
        ("http_status", "", "file:///etc/passwd"),
        ("http_status", "", "example.org:80"),
        ("http_status", "", "http://"),
        ("http_status", "", "http://example.org:port"),
        ("redis_ping", "", "http://example.org"),
        ("redis_ping", "", "unix://"),
    ],
)
def test_a_contradictory_probe_is_refused(kind: str, expects: str, address: str) -> None:
    with pytest.raises(InvalidProbe):
        probes.read(kind, expects, address)
    assert not ask(kind, address, expects).ok


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("https://example.org", "http_status"),
        ("http://example.org/path", "http_status"),
        ("redis://localhost", "redis_ping"),
        ("unix:///run/valkey.sock?db=0", "redis_ping"),
        ("example.org:22", "tcp_connect"),
        ("tcp://example.org:22", "tcp_connect"),
    ],
)
def test_an_address_has_its_usual_probe(address: str, kind: str) -> None:
    assert probes.default_kind(address) == kind


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://example.org", "example.org", ""])
def test_an_address_that_cannot_be_probed_is_refused(address: str) -> None:
    with pytest.raises(InvalidProbe):
        probes.default_kind(address)


# --- HTTP


def test_a_status_is_compared() -> None:
    with server(page(status="404 Not Found")) as port:
        url = f"http://{LOCALHOST}:{port}/a b?q=ä"
        result = ask("http_status", url)
        assert not result.ok
        assert result.message == "HTTP status 404 instead of 200-399"
        assert ask("http_status", url, "404").ok


def test_the_path_and_the_host_are_asked_for() -> None:
    heads: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        heads.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(talk) as port:
        assert ask("http_status", f"http://{LOCALHOST}:{port}/a b/%20?q=1&r=ä#part").ok
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b/%20?q=1&r=%C3%A4 HTTP/1.1"
    assert f"Host: {LOCALHOST}:{port}" in lines


def test_a_text_is_looked_for_in_the_charset_of_the_answer() -> None:
    latin = page("grüße".encode("latin-1"), headers="Content-Type: text/html; charset=latin-1\r\n")
    with server(latin) as port:
        url = f"http://{LOCALHOST}:{port}/"
        assert ask("body_contains", url, "grüße").ok
        missing = ask("body_contains", url, "goodbye")
        assert not missing.ok
        assert missing.message == "'goodbye' is not in the answer"


def test_an_unknown_charset_is_read_as_utf_8() -> None:
    with server(page("grüße".encode(), headers="Content-Type: text/html; charset=none\r\n")) as p:
        assert ask("body_contains", f"http://{LOCALHOST}:{p}/", "grüße").ok


def test_the_error_page_of_a_server_is_no_answer() -> None:
    with server(page(status="503 Service Unavailable")) as port:
        url = f"http://{LOCALHOST}:{port}/"
        assert ask("body_contains", url, "welcome").message == "HTTP status 503"
        assert not ask("response_time", url, "20s").ok


def test_a_slow_answer_is_told_from_a_quick_one() -> None:
    late = threading.Event()

    def talk(sock: socket.socket) -> None:
        late.wait(0.05)
        page()(sock)

    with server(talk) as port:
        url = f"http://{LOCALHOST}:{port}/"
        slow = ask("response_time", url, "10ms")
        assert not slow.ok
        assert "instead of at most 10 ms" in slow.message
        assert ask("response_time", url, "20s").ok


def test_a_redirect_is_followed() -> None:
    with (
        server(page(b"here")) as there,
        server(
            page(status="302 Found", headers=f"Location: http://{LOCALHOST}:{there}/x\r\n")
        ) as port,
    ):
        assert ask("body_contains", f"http://{LOCALHOST}:{port}/", "here").ok


def test_a_redirect_in_a_circle_ends() -> None:
    with server(page(status="302 Found", headers="Location: /again\r\n")) as port:
        result = ask("http_status", f"http://{LOCALHOST}:{port}/")
    assert not result.ok
    assert "redirected more than 5 times" in result.message


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://example.org/", "redis://localhost/", "http://", "https://h:x/"],
)
def test_a_redirect_never_leaves_http(location: str) -> None:
    with server(page(status="301 Moved", headers=f"Location: {location}\r\n")) as port:
        result = ask("http_status", f"http://{LOCALHOST}:{port}/")
    assert not result.ok


def test_the_text_of_a_file_is_never_found_through_a_redirect(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("treasure")
    with server(page(status="302 Found", headers=f"Location: {secret.as_uri()}\r\n")) as port:
        result = ask("body_contains", f"http://{LOCALHOST}:{port}/", "treasure")
    assert not result.ok
    assert "is not an http or https address" in result.message


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Long: ", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="body"),
    ],
)
def test_a_server_that_drips_does_not_hold_the_probe(head: bytes) -> None:
    with server(dripping(head)) as port:
        result = ask("http_status", f"http://{LOCALHOST}:{port}/", timeout=QUICK)
    assert not result.ok
    assert result.message == "no complete answer within 0.5 s"
    assert 450 < result.response_ms < 5000


def test_a_server_that_says_nothing_does_not_hold_the_probe() -> None:
    over = threading.Event()

    def talk(sock: socket.socket) -> None:
        over.wait(10)

    with server(talk) as port:
        result = ask("http_status", f"http://{LOCALHOST}:{port}/", timeout=QUICK)
        over.set()
    assert result.message == "no complete answer within 0.5 s"


def test_a_tls_handshake_that_never_ends_does_not_hold_the_probe() -> None:
    with server(dripping(b"")) as port:
        result = ask("http_status", f"https://{LOCALHOST}:{port}/", timeout=QUICK)
    assert not result.ok
    assert result.response_ms < 5000


def test_a_huge_body_is_read_to_its_first_megabyte_only() -> None:
    sent = 0

    def talk(sock: socket.socket) -> None:
        nonlocal sent
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(4096):
            sock.sendall(b"y" * 65536)
            sent += 65536

    with server(talk) as port:
        answer = net.fetch(f"http://{LOCALHOST}:{port}/", net.Deadline(20))
        assert len(answer.body) == net.BODY_LIMIT
        result = ask("body_contains", f"http://{LOCALHOST}:{port}/", "z")
        assert result.message == "'z' is not in the first 1048576 bytes of the answer"
    # What the sockets' buffers took is more than was read, and far less than 256 MiB.
    assert sent < 64 * 1024 * 1024


def test_something_other_than_http_is_told() -> None:
    with server(answering(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        result = ask("http_status", f"http://{LOCALHOST}:{port}/")
    assert not result.ok
    assert "not an HTTP answer" in result.message


def test_a_message_is_one_line_of_bounded_length() -> None:
    with server(page(status="302 Found", headers=f"Location: http://h/{'x' * 5000}:\r\n")) as port:
        message = ask("http_status", f"http://{LOCALHOST}:{port}/").message
    assert message
    assert len(message) <= probes.LONGEST_MESSAGE
    assert message.isprintable()


def test_a_closed_port_refuses(closed_port: int) -> None:
    for kind, address in (
        ("http_status", f"http://{LOCALHOST}:{closed_port}/"),
        ("tcp_connect", f"{LOCALHOST}:{closed_port}"),
        ("redis_ping", f"redis://{LOCALHOST}:{closed_port}"),
    ):
        result = ask(kind, address)
        assert (result.ok, result.message) == (False, "connection refused")


def test_a_name_that_nobody_has_is_told() -> None:
    assert not ask("tcp_connect", "a..b:80", timeout=QUICK).ok


# --- TLS


def test_a_certificate_that_nobody_signed_is_refused(certificate: Path) -> None:
    with server(page(), certificate=certificate) as port:
        for kind in ("http_status", "tls_expiry"):
            result = ask(kind, f"https://localhost:{port}/")
            assert not result.ok
            assert result.message.startswith("certificate refused: self-signed certificate")


def test_a_trusted_certificate_is_good_as_long_as_it_lasts(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with server(page(b"safe"), certificate=certificate) as port:
        url = f"https://localhost:{port}/"
        assert ask("body_contains", url, "safe").ok
        assert ask("tls_expiry", url, "9d").ok
        ending = ask("tls_expiry", url, "11d")
        assert not ending.ok
        assert ending.message.endswith("in less than 11d")


def test_a_certificate_for_another_name_is_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with server(page(), certificate=certificate) as port:
        result = ask("http_status", f"https://{LOCALHOST}:{port}/")
    assert not result.ok
    assert "certificate refused" in result.message


# --- TCP and Redis


def test_an_open_port_accepts() -> None:
    with server(answering()) as port:
        assert ask("tcp_connect", f"{LOCALHOST}:{port}").ok
        assert ask("tcp_connect", f"http://{LOCALHOST}:{port}/path").ok


def test_valkey_answers(valkey: Valkey) -> None:
    result = ask("redis_ping", valkey.url)
    assert (result.ok, result.message) == (True, "answers PING")


def test_a_password_is_needed_where_there_is_one(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.config_set("requirepass", "open:sesame")
        try:
            assert ask("redis_ping", valkey.url).message.startswith("answered '-NOAUTH")
            with_password = f"unix://:open%3Asesame@{valkey.socket}?db=0"
            assert ask("redis_ping", with_password).ok
            wrong = ask("redis_ping", f"unix://:wrong@{valkey.socket}")
            assert "WRONGPASS" in wrong.message
        finally:
            client.config_set("requirepass", "")


def test_a_server_that_is_no_redis_is_told() -> None:
    with server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        result = ask("redis_ping", f"redis://{LOCALHOST}:{port}")
    assert result.message == "answered 'HTTP/1.1 400 Bad Request'"
