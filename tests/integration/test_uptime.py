"""The uptime example: endpoints and the targets that follow them, the first ones, the report."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from examples.uptime import endpoints, report, watch_self
from examples.uptime.models import Endpoint
from scheduling import declarations, runs
from scheduling.models import Cause, Parked, Run, Seat, State, Target
from scheduling.sync import sync
from tests.factories import NOW
from tests.integration.uptime import add, target_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def jobs() -> None:
    sync(now=NOW)


# --- endpoints and their targets


def runs_of(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Give (cause, state) of the runs that check the endpoint, oldest first."""
    found = Run.objects.filter(target=target_of(endpoint)).order_by("created_at")
    return [(run.cause, run.state) for run in found]


def test_a_new_endpoint_is_checked_at_once_and_then_at_its_frequency() -> None:
    endpoint = add(schedule="every 10m")
    assert runs_of(endpoint) == [(Cause.MANUAL, State.QUEUED)]
    target = target_of(endpoint)
    assert target.schedule == "every 10m"
    assert target.next_fire_at == NOW + timedelta(minutes=10)


def test_an_endpoint_that_is_saved_again_is_not_checked_again() -> None:
    endpoint = add()
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    assert len(runs_of(endpoint)) == 1


def test_checks_of_an_endpoint_hold_its_resource() -> None:
    target = target_of(add("site"))
    assert runs.seat_keys(target.job, target) == ["endpoint site"]


def test_endpoints_of_one_resource_are_never_checked_together() -> None:
    one, other = add("one", resource="small server"), add("other", resource="small server")
    first, second = (Run.objects.get(target=target_of(each)) for each in (one, other))
    assert runs.start(first.pk, 1, worker="host/1", now=NOW) is not None
    assert runs.start(second.pk, 1, worker="host/2", now=NOW) is None
    second.refresh_from_db()
    assert (second.state, second.waiting_for) == (State.QUEUED, "small server")
    assert Seat.objects.get(key="small server").run_id == first.pk


def test_another_frequency_takes_effect_at_once() -> None:
    endpoint = add(schedule="every 1h")
    endpoint.schedule = "every 2m"
    endpoints.save_endpoint(endpoint, by="tester", now=NOW + timedelta(seconds=1))
    assert target_of(endpoint).next_fire_at == NOW + timedelta(minutes=2)


def test_another_resource_is_held_from_then_on() -> None:
    endpoint = add()
    endpoint.resource = "small server"
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    target = target_of(endpoint)
    assert runs.seat_keys(target.job, target) == ["small server"]


def test_an_endpoint_that_is_not_active_is_not_checked_until_it_is_again() -> None:
    endpoint = add()
    endpoint.is_active = False
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    target = target_of(endpoint)
    assert (target.next_fire_at, target.parked) == (None, Parked.RETIRED)
    assert runs_of(endpoint) == [(Cause.MANUAL, State.SKIPPED)]
    endpoint.is_active = True
    endpoint.schedule = "every 2m"
    endpoints.save_endpoint(endpoint, by="tester", now=NOW + timedelta(seconds=1))
    target = target_of(endpoint)
    assert (target.next_fire_at, target.parked) == (NOW + timedelta(minutes=2), "")
    assert runs_of(endpoint)[1:] == [(Cause.MANUAL, State.QUEUED)]


def test_an_endpoint_that_begins_inactive_has_no_target_yet() -> None:
    endpoint = add(is_active=False)
    assert not Target.objects.filter(key=endpoint.name).exists()
    endpoint.is_active = True
    endpoints.save_endpoint(endpoint, by="tester", now=NOW)
    assert target_of(endpoint).next_fire_at == NOW + timedelta(minutes=5)
    assert len(runs_of(endpoint)) == 1


# --- the first endpoints


def test_the_installation_watches_itself_from_the_first_start(settings: Settings) -> None:
    settings.UPTIME_WATCH_SELF = True
    watch_self.after_migrate()
    watch_self.after_migrate()
    names = [name for name, _ in watch_self.OURSELVES]
    assert sorted(Endpoint.objects.values_list("name", flat=True)) == sorted(names)
    assert Run.objects.filter(job__name=endpoints.CHECK, state=State.QUEUED).count() == 3


def test_endpoints_that_were_deleted_do_not_come_back(settings: Settings) -> None:
    settings.UPTIME_WATCH_SELF = True
    watch_self.after_migrate()
    for endpoint in Endpoint.objects.all():
        endpoints.delete_endpoint(endpoint, now=NOW)
    watch_self.after_migrate()
    assert not Endpoint.objects.exists()


def test_an_installation_may_be_told_not_to_watch_itself(settings: Settings) -> None:
    settings.UPTIME_WATCH_SELF = False
    watch_self.after_migrate()
    assert not Endpoint.objects.exists()


# --- the report


def test_the_report_is_an_external_command_every_five_minutes() -> None:
    declared = declarations.collect().declarations["uptime_report"]
    assert (declared.kind, declared.internal) == ("command", False)
    assert declared.hard_limit == timedelta(minutes=1)
    assert "5m" in str(declared.schedule)


def test_the_report_tells_how_every_endpoint_stands(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.UPTIME_REPORT = tmp_path / "new folder" / "report.html"
    add("<b>good</b>")
    bad = add("bad")
    add("asleep", is_active=False)
    Endpoint.objects.filter(pk=bad.pk).update(is_up=False, message="it & that")
    call_command("uptime_report")
    text = settings.UPTIME_REPORT.read_text()
    assert text.index("bad") < text.index("&lt;b&gt;good&lt;/b&gt;")
    assert "it &amp; that" in text
    assert "1 of 2 endpoints failing" in text
    assert "asleep" not in text
    assert "2 endpoints, 1 failing" in capsys.readouterr().out


def test_a_report_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    report.write(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
