"""A service on 127.0.0.1 that notifications are sent to, and rows to send."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from scheduling.models import Event, Notification, Run, State
from tests.factories import NOW, make_job, make_run, make_target

SECRET = "T0P-s3cr3t"


@dataclass
class Receiver:
    """What has arrived; answers with `status`, not before `answers` is set."""

    port: int = 0
    status: int = 200
    location: str = ""
    drips: bool = False  # header by header, until `answers` is set
    answers: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/{SECRET}"

    @property
    def apprise_url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]

    def forms(self) -> list[dict[str, list[str]]]:
        return [parse_qs(body.decode(), keep_blank_values=True) for _, _, body in self.requests]


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()
    found.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.requests.append((self.path, self.headers["Content-Type"], body))
            if found.drips:
                self.send_response(200)
                while not found.answers.wait(0.02):
                    self.send_header("X-More", "to come")
                    self.flush_headers()
            found.answers.wait(60)
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            found.requests.append((self.path, "GET", b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # whoever waited for a slow answer has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.answers.set()
        server.shutdown()
        thread.join()


def failed_run(name: str = "books", key: str = "", **fields: Any) -> Run:
    resource = fields.pop("resource", "")
    target = make_target(
        make_job(name, **fields.pop("job", {})),
        key,
        resource=resource,
        failing_since=NOW - timedelta(hours=1),
    )
    values: dict[str, Any] = {
        "state": State.FAILED,
        "reason": "error",
        "ended_at": NOW,
        "error": "Traceback\n  ...\nKeyError: 'gone'\n",
        "output": "".join(f"line {n}\n" for n in range(30)),
    }
    return make_run(target, **values | fields)


def notify(run: Run | None = None, **fields: Any) -> Notification:
    values: dict[str, Any] = {
        "run": run,
        "name": run.name if run else "books",
        "event": Event.FAILING,
        "created_at": NOW,
        "deliver_at": NOW,
    }
    return Notification.objects.create(**values | fields)
