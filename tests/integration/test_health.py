"""The checks, `jobs health`, `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from scheduling import health
from scheduling.models import Cause, Process, ProcessKind, State
from scheduling.views.health import ASKED
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.cli import jobs
from tests.services import Valkey

pytestmark = pytest.mark.django_db

LONG_AGO = NOW - timedelta(minutes=10)


def alive(kind: ProcessKind, *, silent: timedelta = timedelta(0)) -> None:
    Process.objects.create(
        kind=kind, name=f"{kind}@here", host="here", pid=1, started_at=NOW, seen_at=NOW - silent
    )


@pytest.fixture
def all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    alive(ProcessKind.BEAT)
    alive(ProcessKind.WORKER)
    monkeypatch.setattr("scheduling.health.clock.now", lambda: NOW)


def failed() -> dict[str, str]:
    return {check.name: check.detail for check in health.checks(NOW) if not check.ok}


# --- checks ---------------------------------------------------------------------------------------


def test_an_installation_with_beat_and_worker_is_well(all_is_well: None) -> None:
    assert [check.name for check in health.checks(NOW)] == list(health.NAMES)
    assert failed() == {}


def unclaimed() -> None:
    make_target(next_fire_at=LONG_AGO)


def unpublished() -> None:
    make_run(publish_at=LONG_AGO)


def abandoned() -> None:
    make_run(state=State.RUNNING, lease_until=LONG_AGO)


def unreadable() -> None:
    make_job("odd", schedule="now and then", schedule_error="cannot be read")


@pytest.mark.parametrize(
    ("trouble", "name", "said"),
    [
        (unclaimed, "due", "10 minutes"),
        (unpublished, "publishing", "10 minutes"),
        (abandoned, "leases", "1 run"),
        (unreadable, "schedules", "odd"),
    ],
)
def test_one_trouble_fails_one_check(
    all_is_well: None, trouble: Callable[[], None], name: str, said: str
) -> None:
    trouble()
    assert list(failed()) == [name]
    assert said in failed()[name]


def test_what_has_just_become_due_is_no_trouble(all_is_well: None) -> None:
    make_target(next_fire_at=NOW - timedelta(seconds=30))
    make_run(publish_at=NOW - timedelta(seconds=30))
    assert failed() == {}


def test_a_failing_job_is_told_and_the_installation_is_well(all_is_well: None) -> None:
    make_target(failing_since=NOW)
    (check,) = health.checks(NOW, ["failing"])
    assert check.ok
    assert check.detail == "1 jobs, 1 targets"


def test_a_silent_beat_and_a_missing_worker_are_told_with_the_next_step() -> None:
    alive(ProcessKind.BEAT, silent=timedelta(seconds=11))
    assert "11 seconds ago" in failed()["beat"]
    assert "celery -A config worker" in failed()["workers"]


def test_a_lost_redis_fails_its_checks_and_no_other(all_is_well: None, valkey: Valkey) -> None:
    valkey.kill()
    try:
        assert set(failed()) == {"redis", "broker"}
    finally:
        valkey.start()


def test_without_a_database_the_rest_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: object) -> Any:
        raise OperationalError("connection refused\nis it running?")

    monkeypatch.setattr("scheduling.health.db.connection.cursor", down)
    assert failed()["database"] == "OperationalError: connection refused"
    assert failed()["beat"] == "unknown without the database"
    told = jobs("health", "--json")
    assert told.code == 1
    assert told.document()["ok"] is False


# --- jobs health ----------------------------------------------------------------------------------


def test_health_is_one_document_and_an_exit_code(all_is_well: None) -> None:
    told = jobs("health", "--json")
    assert told.code == 0, told
    answer = told.document()
    assert set(answer) == {"ok", "checks"}
    assert answer["ok"] is True
    assert {tuple(check) for check in answer["checks"]} == {("name", "ok", "detail")}
    Process.objects.all().delete()
    assert jobs("health", "--json").code == 1
    assert "NOT OK  beat" in jobs("health").stdout


# --- /healthz -------------------------------------------------------------------------------------


def test_healthz_needs_no_log_in_and_tells_no_details(all_is_well: None, client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert answer.content.decode() == "".join(f"{name} ok\n" for name in ASKED)


def test_one_unreadable_schedule_takes_no_process_out_of_service(
    all_is_well: None, client: Client
) -> None:
    unreadable()
    assert client.get("/healthz").status_code == 200
    answer = client.get("/healthz?check=schedules")
    assert (answer.status_code, answer.content) == (503, b"schedules failed\n")


def test_healthz_answers_about_one_check_alone(client: Client) -> None:
    answer = client.get("/healthz?check=database")
    assert (answer.status_code, answer.content) == (200, b"database ok\n")
    assert client.get("/healthz?check=database&check=beat").status_code == 503
    assert client.get("/healthz?check=everything").status_code == 400
    assert client.post("/healthz").status_code == 405


def test_healthz_costs_a_bounded_number_of_queries(
    all_is_well: None, client: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(20):
        make_run(make_target(make_job(schedule_error="x"), next_fire_at=LONG_AGO))
    with django_assert_max_num_queries(13):
        client.get("/healthz")


# --- /metrics -------------------------------------------------------------------------------------


def figures(client: Client) -> dict[tuple[str, ...], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_metrics_tell_of_runs_lateness_processes_and_failures(
    all_is_well: None, client: Client
) -> None:
    target = make_target(next_fire_at=NOW - timedelta(seconds=7), failing_since=NOW)
    make_run(target, publish_at=NOW - timedelta(seconds=3), queue="mails")
    make_run(target, state=State.FAILED, reason="error", cause=Cause.SCHEDULE)
    make_run(state=State.SUCCEEDED, created_at=NOW - timedelta(hours=1))
    found = figures(client)
    assert found["jobs_open_runs", "mails", "queued"] == 1
    assert found["jobs_recent_runs", "error", "failed"] == 1
    assert ("jobs_recent_runs", "", "succeeded") not in found
    assert found["jobs_lateness_seconds", "claim"] == 7
    assert found["jobs_lateness_seconds", "publish"] == 3
    assert found["jobs_process_silence_seconds", "beat", "beat@here"] == 0
    assert found["jobs_failing",] == 1
    assert found["jobs_failing_targets",] == 1
    assert found["jobs_check_ok", "beat"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"},
        {"REMOTE_ADDR": "192.0.2.1", "HTTP_AUTHORIZATION": "Bearer "},
        {"REMOTE_ADDR": "192.0.2.1", "HTTP_AUTHORIZATION": "Bearer wrong"},
        {"REMOTE_ADDR": "192.0.2.1", "HTTP_AUTHORIZATION": "Basic right"},
    ],
)
@pytest.mark.parametrize("token", ["", "right"])
def test_metrics_are_not_for_strangers(
    settings: Settings, headers: dict[str, Any], token: str
) -> None:
    settings.JOBS_METRICS_TOKEN = token
    assert Client(**headers).get("/metrics").status_code == 403


def test_metrics_are_for_the_token_and_for_staff(settings: Settings) -> None:
    settings.JOBS_METRICS_TOKEN = "right"
    away = Client(REMOTE_ADDR="192.0.2.1")
    assert away.get("/metrics", headers={"Authorization": "Bearer right"}).status_code == 200
    away.force_login(User.objects.create_user("anna"))
    assert away.get("/metrics").status_code == 403
    away.force_login(User.objects.create_user("bob", is_staff=True))
    assert away.get("/metrics").status_code == 200
