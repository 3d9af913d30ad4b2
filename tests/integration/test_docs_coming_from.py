"""The examples of docs/coming-from do what these pages say; `tests/unit` reads the pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from celery import beat, current_app
from celery.utils.imports import symbol_by_name
from django_celery_beat.models import PeriodicTask

from scheduling import backend, clock, runs, sync
from scheduling.models import Cause, Circuit, Job, Reason, Run, State, Target
from scheduling.registry import registry
from scheduling.runs import Result
from scheduling.sources import sources
from tests.factories import make_job, make_run, make_target
from tests.integration import periodic_rows
from tests.integration.cli import Told, jobs
from tests.integration.command_app import Deploy
from tests.unit.test_docs import examples_of, load, page

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
FAILED = Result(state=State.FAILED, reason=Reason.ERROR)

Declare = Callable[..., None]


@pytest.fixture
def declare(transactional_db: None) -> Iterator[Declare]:
    """Give a function that declares what a page's example does, and nothing else, and syncs."""
    before, tasks = dict(registry._by_name), set(current_app.tasks)
    named = dict(sources._by_name)
    registry._by_name = {}
    Job.objects.all().delete()

    def declare(name: str, now: datetime | None = None) -> None:
        load(example(name, "@job"))
        sync.sync(now=now or clock.now())

    yield declare
    registry._by_name, sources._by_name = before, named
    for task in set(current_app.tasks) - tasks:
        current_app.tasks.pop(task)


def example(name: str, word: str) -> str:
    (code,) = [code for code in examples_of(f"docs/coming-from/{name}.md") if word in code]
    return code


def console(name: str) -> list[Told]:
    """Run what the page shows at the command line; none of it finds a problem."""
    shown = re.findall(r"^\$ python manage.py jobs (.*)$", page(f"coming-from/{name}"), re.M)
    assert shown
    told = [jobs(*shlex.split(words)) for words in shown]
    assert [each for each in told if each.code != 0] == []
    return told


def test_software_heritage_a_lister_a_pick_and_results(declare: Declare) -> None:
    declare("software-heritage")
    _, picked, _ = console("software-heritage")
    assert "https://forge.example/old.git" in picked.stdout
    names = load(example("software-heritage", "runs.observe"))
    ended = Run.objects.get(pk=names["picked"].pk)
    assert (ended.key, ended.strategy) == ("https://forge.example/old.git", "never_checked")
    assert (ended.state, ended.outcome) == (State.SUCCEEDED, "changed")
    assert ended.metadata == {"commits": 12}
    assert names["told"].folded == 1
    (told,) = backend.get_coverage("load_git")
    assert (told.known, told.never_checked) == (2, 0)


def test_geohealthcheck_a_resource_is_kept_until_the_next_fire(declare: Declare) -> None:
    declare("geohealthcheck")
    target = load(example("geohealthcheck", "add_target"))["target"]
    *_, locks = console("geohealthcheck")
    assert "geo.example" in locks.stdout
    target.refresh_from_db()
    (seat,) = runs.locks_held(clock.now(), key="geo.example")
    assert seat.held_until == target.next_fire_at
    assert target.next_fire_at - clock.now() <= 10 * MINUTE
    other = make_run(make_target(make_job("other"), resource="geo.example"))
    assert runs.start(other.pk, 1, worker="w", now=clock.now()) is None
    assert runs.start(other.pk, 1, worker="w", now=target.next_fire_at) is not None


def test_flyte_what_was_missed_is_run_with_its_own_time(declare: Declare) -> None:
    missed = load(example("flyte", "fires_between"))["missed"]
    assert len(missed) == 3
    declare("flyte", missed[0] - MINUTE)
    runs.claim(now=datetime(2027, 1, 30, 21, tzinfo=UTC), limit=10)
    claimed = Run.objects.filter(name="nightly").order_by("scheduled_at")
    assert [(run.scheduled_at, run.cause) for run in claimed] == [
        (at, Cause.CATCH_UP) for at in missed
    ]
    claimed.delete()
    console("flyte")
    told = jobs("run", "nightly", "--as-of", "2027-01-28T19:00:00Z", "--json").document()
    assert Run.objects.get(pk=told["id"]).result == (
        "processed the day before 2027-01-28T19:00:00+00:00"
    )


def test_axway_kinds_of_jobs_and_their_circuit(declare: Declare) -> None:
    declare("axway")
    now = clock.now()
    assert load(example("axway", "with lock"))["while_nobody_polls"]() == 1
    poll = Run.objects.get(name="poll")
    assert runs.start(poll.pk, 1, worker="w", now=now) is not None
    (seat,) = runs.locks_held(now, key="upstream")
    assert seat.run == poll
    console("axway")
    assert Circuit.objects.get(name="edge").is_open
    single, now = Run.objects.get(name="register_agent"), clock.now()
    for attempt in (1, 2, 3):
        started = runs.start(single.pk, attempt, worker="w", now=now)
        assert started is not None
        assert runs.finish(single.pk, attempt, token=started.token, result=FAILED, now=now)
        now += 10 * MINUTE
    single.refresh_from_db()
    assert (single.state, single.attempt) == (State.FAILED, 3)
    runs.claim(now=now, limit=10)
    assert not Run.objects.filter(name="stream_events").exists()
    assert runs.close_circuit(Circuit.objects.get(), by="ann", reason="moved", now=now)
    runs.claim(now=now, limit=10)
    stream = Run.objects.get(name="stream_events")
    started = runs.start(stream.pk, 1, worker="w", now=now)
    assert started is not None
    assert runs.finish(stream.pk, 1, token=started.token, result=FAILED, now=now)
    assert Circuit.objects.get().is_open


def test_pgeu_a_command_as_it_stands_there(deploy: Deploy) -> None:
    deploy(send_queued_mail=example("pgeu", "ScheduledJob"), now=clock.now())
    _, _, unscheduled = console("pgeu")
    run = Run.objects.get()
    assert (run.state, run.output) == (State.SUCCEEDED, "3 mails sent\n")
    target = Target.objects.get(job__name="send_queued_mail")
    assert run.ended_at is not None
    assert target.next_fire_at == run.ended_at + 10 * MINUTE
    assert "send_queued_mail" not in unscheduled.stdout
    asked = load(example("pgeu", "runs.trigger"))["run"]
    assert asked.ready_at == asked.created_at + MINUTE


def test_django_celery_beat_rows_fire_and_stock_beat_could_go_on(transactional_db: None) -> None:
    load(example("django-celery-beat", "PeriodicTask"))
    console("django-celery-beat")
    row = PeriodicTask.objects.get(name="refresh cache")
    job = Job.objects.get(name="refresh cache")
    assert (job.periodic_task_id, job.start_within) == (row.pk, 2 * MINUTE)
    first = periodic_rows.cursor("refresh cache")
    assert row.last_run_at is not None
    assert first is not None
    assert abs(first - row.last_run_at - 10 * MINUTE) < timedelta(seconds=1)
    assert [run.name for run in periodic_rows.claim(first)] == ["refresh cache"]
    row.refresh_from_db()
    assert (row.last_run_at, row.total_run_count) == (first, 1)
    with time_machine.travel(first + MINUTE, tick=False):
        is_due, _ = row.schedule.is_due(row.last_run_at)
    assert not is_due


@pytest.mark.parametrize("word", ["scheduling.beat", "DatabaseScheduler"], ids=["in", "back"])
def test_the_way_in_and_the_way_back_are_one_setting(word: str) -> None:
    named: dict[str, Any] = load(example("django-celery-beat", f"{word}"))
    assert issubclass(symbol_by_name(named["CELERY_BEAT_SCHEDULER"]), beat.Scheduler)
