"""Small servers that answer well or badly, on free ports of 127.0.0.1."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Talk = Callable[[socket.socket], None]
LOCALHOST = "127.0.0.1"


@contextmanager
def server(talk: Talk, *, certificate: Path | None = None) -> Iterator[int]:
    """Serve one connection after another on a free port, each by `talk` after its request."""
    listener = socket.create_server((LOCALHOST, 0))
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            try:
                if context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                with sock:
                    talk(sock)
            except OSError:
                sock.close()  # the other side has seen enough

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # A close alone does not wake accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)
    assert not thread.is_alive()


def answering(*parts: bytes) -> Talk:
    """Read a request's head, send the parts and close."""

    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        for part in parts:
            sock.sendall(part)

    return talk


def page(body: bytes = b"welcome", *, status: str = "200 OK", headers: str = "") -> Talk:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    # In two parts, as many servers send it.
    return answering(head, body)


def dripping(head: bytes) -> Talk:
    """Send `head`, then one byte now and then, for ever: every read succeeds soon."""
    gone = threading.Event()

    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(head)
        while not gone.wait(0.02):
            sock.sendall(b"x")

    return talk
