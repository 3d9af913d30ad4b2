"""What the tests of the uptime example share: a site, endpoints, and checks of them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from celery.app.trace import build_tracer

from config.celery import app
from examples.uptime import endpoints
from examples.uptime.models import Endpoint
from scheduling import clock
from scheduling.models import Job, Run, Target
from tests.factories import NOW
from workers import task


class Site:
    """Serves one page on a free port of 127.0.0.1 while the block lasts."""

    def __init__(self, body: bytes = b"welcome") -> None:
        self.status = 200
        self.body = body
        self.paths: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                self.send_response(site.status)
                self.send_header("Content-Length", str(len(site.body)))
                self.end_headers()
                self.wfile.write(site.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def add(name: str = "site", address: str = "tcp://127.0.0.1:9", **fields: Any) -> Endpoint:
    endpoint = Endpoint(name=name, address=address, **fields)
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    return endpoint


def target_of(endpoint: Endpoint, job: str = endpoints.CHECK) -> Target:
    return Target.objects.select_related("job", "resource").get(job__name=job, key=endpoint.name)


def execute(run: Run) -> Run:
    """Deliver the run's message as a worker's child would, and give the run as it is then."""
    assert run.job is not None
    task.install(app)
    trace = build_tracer(run.job.task, app.tasks[run.job.task], app=app)
    headers = {"jobs_run": [str(run.pk), run.attempt]}
    request = {"id": str(run.pk), "hostname": "tester@here", "delivery_info": {}, **headers}
    trace(str(run.pk), [], {}, request)
    return Run.objects.select_related("job").get(pk=run.pk)


def check(endpoint: Endpoint) -> Run:
    """Check once, with no attempt after a failed one."""
    Job.objects.filter(name=endpoints.CHECK).update(retries=0)
    return execute(endpoints.check_now(endpoint, by="tester", now=clock.now()))


def fresh(endpoint: Endpoint) -> Endpoint:
    return Endpoint.objects.get(pk=endpoint.pk)
