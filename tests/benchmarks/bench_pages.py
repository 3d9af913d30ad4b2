"""How long pages, metrics and answers take beside 1,000,000 targets and 5,000,000 runs of a day.

    python -m tests.benchmarks.bench_pages [TARGETS] [RUNS_OF_EACH]

On a PostgreSQL of its own, asked without a web server by somebody who may see everything. Each is
asked twice; the second time counts. Half of the targets cool down; 2,000 runs are open, and one in
a hundred targets failed at its last run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from time import perf_counter
from typing import Any

from tests.benchmarks.installation import installation, machine

OPEN = 2000
GOAL_MS = 1000

RUNS = """
INSERT INTO scheduling_run (
    id, job_id, target_id, name, key, scheduled_at, fires, cause, state, reason, detail, attempt,
    failures, losses, created_at, ready_at, started_at, ended_at, waiting_for, published_at,
    published_epoch, publications, queue, strategy, worker, exclusive, stop_requested_by, kwargs,
    outcome, output, output_bytes, error, depth, requested_by
)
SELECT
    gen_random_uuid(), {job}, id, {name}, key, at, 1, 'schedule',
    CASE WHEN turn = 0 AND id % 100 = 0 THEN 'failed' ELSE 'succeeded' END, '', '', 1,
    0, 0, at, at, at, at + interval '1 second', '', at,
    '', 1, '', 'stalest', 'worker', true, '', '{{}}',
    'unchanged', '', 0, '', 0, ''
FROM (
    SELECT id, key, turn, now() - interval '24 hours'
        * (turn + row_number() OVER (PARTITION BY turn ORDER BY id)::float8 / {targets}) / {turns}
        AS at
    FROM scheduling_target, generate_series(0, {turns} - 1) AS turn WHERE job_id = {job}
) AS fires
"""
AFTERWARDS = (
    "UPDATE scheduling_target SET failing_since = now() WHERE job_id = {job} AND id % 100 = 0",
    "UPDATE scheduling_run SET state = 'queued', ended_at = NULL, started_at = NULL, outcome = '' "
    f"WHERE id IN (SELECT id FROM scheduling_run ORDER BY created_at DESC LIMIT {OPEN})",
    "VACUUM ANALYZE scheduling_target, scheduling_run",
)


def main(targets: str = "1000000", turns: str = "5") -> None:
    with installation(with_valkey=True):
        measure(int(targets), int(turns))


def measure(targets: int, turns: int) -> None:
    from scheduling import runs

    job = make_history(targets, turns)
    runs.recount_coverage()
    sys.stdout.write(
        f"{machine()}; {targets:,} targets, {targets * turns:,} runs\n\nmilliseconds\n"
    )
    slowest = 0.0
    for name, ask in questions(job):
        ask()
        began = perf_counter()
        ask()
        took = (perf_counter() - began) * 1000
        slowest = max(slowest, took)
        sys.stdout.write(f"{name:50}{took:8.0f}\n")
    met = "met" if slowest <= GOAL_MS else "MISSED"
    sys.stdout.write(f"\nGoal: at most {GOAL_MS} ms each: {met}\n")


def make_history(targets: int, turns: int) -> Any:
    from django.db import connection

    from tests.benchmarks.bench_selection import make_inventory

    job = make_inventory(targets)
    with connection.cursor() as cursor:
        name = f"'{job.name}'"
        cursor.execute(RUNS.format(job=job.pk, name=name, targets=targets, turns=turns))
        for statement in AFTERWARDS:
            cursor.execute(statement.format(job=job.pk))
    return job


def questions(job: Any) -> list[tuple[str, Callable[[], object]]]:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client
    from django.urls import reverse

    from scheduling.models import Run, State

    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("somebody"))
    run = Run.objects.filter(job=job, state=State.FAILED).select_related("target").latest("pk")
    assert run.target is not None

    def page(url: str) -> Callable[[], object]:
        def ask() -> None:
            status = client.get(url).status_code
            assert status == 200, (url, status)

        return ask

    def verb(*words: str) -> Callable[[], object]:
        def ask() -> None:
            with suppress(SystemExit):  # no beat is there: `health` says so
                call_command("jobs", *words, stdout=StringIO(), stderr=StringIO())

        return ask

    listed = reverse("admin:scheduling_run_changelist")
    pages = {
        "home": reverse("admin:index"),
        "runs": listed,
        "runs that failed": f"{listed}?state__exact=failed",
        "open runs": f"{listed}?state__exact=queued&state__exact=running",
        "runs of the job": f"{listed}?job__id__exact={job.pk}",
        "runs found by the job's name": f"{listed}?q={job.name}",
        "runs found by a key": f"{listed}?q={run.key}",
        "runs that are not there": f"{listed}?q=nowhere",
        "a run": reverse("admin:scheduling_run_change", args=(run.pk,)),
        "jobs": reverse("admin:scheduling_job_changelist"),
        "the job": reverse("admin:scheduling_job_change", args=(job.pk,)),
        "the job's ledger": reverse("admin:scheduling_job_ledger", args=(job.pk,)),
        "targets": reverse("admin:scheduling_target_changelist"),
        "targets found by a key": f"{reverse('admin:scheduling_target_changelist')}?q={run.key}",
        "a target": reverse("admin:scheduling_target_change", args=(run.target.pk,)),
        "resources": reverse("admin:scheduling_resource_changelist"),
        "coverage": reverse("admin:scheduling_coveragecount_changelist"),
        "/metrics": reverse("metrics"),
    }
    verbs = (
        ("health",),
        ("list",),
        ("history", job.name),
        ("why", job.name),
        ("why", job.name, "--key", run.key),
        ("feeding",),
        ("coverage",),
        ("prune", "--dry-run"),
    )
    return [
        *((name, page(url)) for name, url in pages.items()),
        *(("jobs " + " ".join(words), verb(*words)) for words in verbs),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
