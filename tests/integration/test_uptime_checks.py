"""The uptime example: checks as a worker runs them, what they leave, alerts, reliability."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.core import mail
from pytest_django import DjangoAssertNumQueries, Settings

from examples.uptime import addresses, checks, endpoints
from examples.uptime.models import Endpoint, Measurement, Probe
from scheduling import Outcome, clock
from scheduling.models import Cause, Run, State
from scheduling.sync import sync
from tests.factories import NOW
from tests.integration.uptime import Site, add, check, execute, fresh, target_of

# Celery closes the database connection around a task.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def jobs() -> None:
    sync(now=NOW)


def test_the_outcome_says_whether_the_result_changed() -> None:
    with Site() as site:
        endpoint = add(address=site.url)
        assert check(endpoint).outcome == Outcome.CHANGED
        assert check(endpoint).outcome == Outcome.UNCHANGED
        site.status = 500
        failed = check(endpoint)
        assert (failed.state, failed.outcome) == (State.FAILED, "")
        site.status = 200
        assert check(endpoint).outcome == Outcome.CHANGED


def test_a_check_is_good_when_all_probes_are() -> None:
    with Site() as site:
        endpoint = add(address=site.url)
        Probe.objects.create(endpoint=endpoint, kind="http_status")
        Probe.objects.create(endpoint=endpoint, kind="body_contains", expects="welcome")
        Probe.objects.create(endpoint=endpoint, kind="redis_ping", address="$REDIS_URL")
        assert check(endpoint).state == State.SUCCEEDED
        found = fresh(endpoint)
        assert found.is_up is True
        assert found.message == "HTTP status 200; contains 'welcome'; answers PING"
        assert found.response_ms is not None


def test_a_failed_check_names_all_that_failed_the_first_one_first() -> None:
    with Site() as site:
        site.status = 404
        endpoint = add(address=site.url)
        Probe.objects.create(endpoint=endpoint, kind="http_status", expects="200")
        Probe.objects.create(endpoint=endpoint, kind="tcp_connect")
        Probe.objects.create(endpoint=endpoint, kind="body_contains", expects="welcome")
        run = check(endpoint)
    message = "HTTP status 404 instead of 200; HTTP status 404"
    assert run.state == State.FAILED
    assert run.error.strip().endswith(f"CheckFailed: {message}")
    found = fresh(endpoint)
    assert (found.is_up, found.message, found.response_ms) == (False, message, None)


def test_a_second_attempt_replaces_what_the_first_has_measured() -> None:
    with Site() as site:
        site.status = 503
        endpoint = add(address=site.url)
        run = execute(endpoints.check_now(endpoint, by="tester", now=clock.now()))
        assert (run.state, run.attempt) == (State.QUEUED, 2)
        assert Measurement.objects.get().ok is False
        site.status = 200
        Run.objects.filter(pk=run.pk).update(ready_at=clock.now())
        run = execute(run)
    assert (run.state, run.outcome) == (State.SUCCEEDED, Outcome.CHANGED)
    assert Measurement.objects.get().ok is True
    assert mail.outbox == []


def test_a_gateway_that_recovers_until_the_second_attempt_is_no_outage() -> None:
    with Site() as site:
        site.status = 502
        endpoint = add(address=site.url)
        run = execute(endpoints.check_now(endpoint, by="tester", now=clock.now()))
        site.status = 200
        Run.objects.filter(pk=run.pk).update(ready_at=clock.now())
        run = execute(run)
        assert site.paths == ["/", "/"]
    assert (run.state, run.attempt) == (State.SUCCEEDED, 2)
    assert mail.outbox == []


def test_any_status_is_an_answer_and_the_probe_says_whether_a_good_one() -> None:
    with Site() as site:
        site.status = 503
        endpoint = add(address=site.url)
        Probe.objects.create(endpoint=endpoint, expects="503")
        run = check(endpoint)
        assert site.paths == ["/"]
    assert (run.state, run.attempt) == (State.SUCCEEDED, 1)


def test_whether_a_missing_page_is_good_is_for_the_probes_to_say() -> None:
    with Site() as site:
        site.status = 404
        reachable, usual = add("reachable", site.url), add("usual", site.url)
        Probe.objects.create(endpoint=reachable, kind="tcp_connect")
        assert check(reachable).state == State.SUCCEEDED
        # Without any probe it gets the usual one, which asks for the status.
        assert check(usual).state == State.FAILED


def test_nine_endpoints_have_one_run_each_after_one_pass() -> None:
    with Site() as site:
        for number in range(9):
            add(f"site {number}", f"{site.url}/{number}")
        for run in Run.objects.filter(job__name=endpoints.CHECK).select_related("job"):
            execute(run)
    checked = Run.objects.filter(job__name=endpoints.CHECK, state=State.SUCCEEDED)
    assert sorted(run.key for run in checked) == [f"site {number}" for number in range(9)]
    assert sorted(site.paths) == [f"/{number}" for number in range(9)]
    assert Measurement.objects.filter(ok=True).count() == 9


def test_a_check_of_an_endpoint_that_is_gone_finds_it_missing() -> None:
    endpoint = add()
    run = endpoints.check_now(endpoint, by="tester", now=clock.now())
    Endpoint.objects.all().delete()
    assert execute(run).outcome == Outcome.MISSING


def test_alerts_tell_of_failing_and_of_fixed_once_each() -> None:
    with Site() as site:
        endpoint = add("shop", address=site.url)
        check(endpoint)
        site.status = 500
        check(endpoint)
        check(endpoint)
        site.status = 200
        check(endpoint)
        check(endpoint)
    subjects = [message.subject for message in mail.outbox]
    assert len(subjects) == 2
    assert "Failing" in subjects[0]
    assert "Fixed" in subjects[1]
    assert all("shop" in subject for subject in subjects)
    assert mail.outbox[0].to == ["root@localhost"]
    assert "HTTP status 500 instead of 200-399" in mail.outbox[0].body


# --- endpoints that change meanwhile


def test_a_deleted_endpoint_leaves_its_history_and_is_found_again_by_name() -> None:
    endpoint = add("site")
    run = check(endpoint)
    target = target_of(endpoint)
    endpoints.delete_endpoint(endpoint, now=NOW)
    assert not Measurement.objects.exists()
    target.refresh_from_db()
    assert target.retired_at is not None
    assert Run.objects.filter(pk=run.pk, target=target).exists()
    again = add("site", schedule="every 2m")
    assert target_of(again).pk == target.pk
    assert target_of(again).retired_at is None


def test_an_edit_leaves_alone_what_a_check_has_found_meanwhile() -> None:
    endpoint = add()
    with Site() as site:
        Endpoint.objects.filter(pk=endpoint.pk).update(address=site.url)
        check(fresh(endpoint))
    endpoint.tags = "edited"
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    assert fresh(endpoint).is_up is True
    assert fresh(endpoint).tags == "edited"


# --- addresses of the installation itself


def test_the_broker_is_found_by_the_name_of_its_setting() -> None:
    assert check(add("broker", address="$REDIS_URL")).state == State.SUCCEEDED


def test_an_address_follows_the_port_of_the_installation(settings: Settings) -> None:
    endpoint = add("web", address="$WEB_URL/healthz")
    with Site() as site:
        settings.WEB_URL = site.url
        check(endpoint)
        assert site.paths == ["/healthz"]


def test_an_address_names_no_other_setting(settings: Settings) -> None:
    settings.SECRET_KEY = "secret"
    run = check(add("leak", address="$SECRET_KEY:80"))
    assert run.state == State.FAILED
    assert "secret" not in run.error.replace("$SECRET_KEY", "")


def test_the_password_of_the_broker_goes_to_no_other_host(settings: Settings) -> None:
    settings.REDIS_URL = "redis://:secret@valkey:6379"
    assert addresses.expand("$REDIS_URL") == settings.REDIS_URL
    assert addresses.expand("$REDIS_URL/1") == "redis://:secret@valkey:6379/1"
    for address in ("$REDIS_URL@example.org:6379", "$REDIS_URL.example.org", "x$REDIS_URL"):
        assert addresses.expand(address) == address


def test_looking_at_an_endpoint_takes_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    endpoint = add(address="127.0.0.1:1")
    with django_assert_num_queries(1):
        assert not checks.look(endpoint).ok


# --- reliability


@pytest.mark.parametrize(
    ("good", "total", "expected"),
    [(0, 0, 0), (0, 3, 0), (5, 5, 100), (2, 3, 66.67), (3, 3, 100), (1, 7, 14.29)],
)
def test_reliability_is_the_share_of_good_checks(good: int, total: int, expected: float) -> None:
    endpoint = add()
    for number in range(total):
        Measurement.objects.create(
            endpoint=endpoint, run_id=uuid4(), measured_at=NOW, ok=number < good, message=""
        )
    value = checks.compute_reliability(endpoint)
    assert round(value, 2) == expected
    assert fresh(endpoint).reliability == value


def test_reliability_follows_a_check_whatever_its_end() -> None:
    with Site() as site:
        endpoint, _ = add("site", address=site.url), add("other")
        first = check(endpoint)
        site.status = 500
        second = check(endpoint)
    followers = Run.objects.filter(job__name=endpoints.RELIABILITY).select_related("job")
    assert {(run.parent_id, run.key, run.cause) for run in followers} == {
        (parent.pk, "site", Cause.FOLLOW_UP) for parent in (first, second)
    }
    outcomes = {execute(run).outcome for run in followers}
    assert outcomes == {Outcome.CHANGED, Outcome.UNCHANGED}
    assert fresh(endpoint).reliability == 50


def test_measurements_are_forgotten_when_they_are_too_old(settings: Settings) -> None:
    settings.UPTIME_KEEP = timedelta(days=30)
    endpoint = add()
    for age in (timedelta(days=30), timedelta(days=30, seconds=1), timedelta(days=31)):
        Measurement.objects.create(
            endpoint=endpoint, run_id=uuid4(), measured_at=NOW - age, ok=True, message=""
        )
    assert checks.forget(now=NOW) == 2
    assert Measurement.objects.get().measured_at == NOW - timedelta(days=30)
