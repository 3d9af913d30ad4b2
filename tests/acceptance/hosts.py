"""Small web servers on 127.0.0.x that count how hard they are pressed."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Hosts:
    """Serves every path on one port of 127.0.0.1, 127.0.0.2, ...; it is the oracle of politeness.

    Paths that begin with /changing say something else each time; /slow takes a second.
    """

    def __init__(self, count: int) -> None:
        self.visits: Counter[str] = Counter()  # by path
        self.most_at_once: Counter[str] = Counter()  # by host
        self.starts: dict[str, list[float]] = defaultdict(list)  # by host, ascending
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._never = threading.Event()
        first = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = first.server_port
        self._servers = [first]
        for number in range(1, count):
            address = (f"127.0.0.{number + 1}", self.port)
            self._servers.append(ThreadingHTTPServer(address, self._handler()))
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.1,)) for server in self._servers
        ]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hosts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = hosts._serve(self.headers["Host"].partition(":")[0], self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _serve(self, host: str, path: str) -> bytes:
        with self._lock:
            self.visits[path] += 1
            self.starts[host].append(time.monotonic())
            self._inside[host] += 1
            self.most_at_once[host] = max(self.most_at_once[host], self._inside[host])
            body = f"{self.visits[path]}" if path.startswith("/changing") else "the same"
        if path.startswith("/slow"):
            self._never.wait(1)
        with self._lock:
            self._inside[host] -= 1
        return body.encode()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
