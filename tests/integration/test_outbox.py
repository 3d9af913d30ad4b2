"""Publishing: once per run, after the commit, and again only on evidence of loss."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.app import app_or_default
from django.test import override_settings

from scheduling import broker, evidence, outbox
from scheduling.models import Process, ProcessKind, Run, State
from tests.factories import NOW, make_job, make_run, make_target
from tests.services import Valkey

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
# What kombu calls the list of messages without a lane.
NORMAL_LIST = f"celery\x06\x16{broker.NORMAL}"


@pytest.fixture
def app() -> Celery:
    return app_or_default()


def ready(**fields: Any) -> Run:
    return make_run(make_target(make_job(**fields)), publish_at=NOW, queue=fields.pop("queue", ""))


def published(epoch: str = "e1", *, at: datetime = NOW, **fields: Any) -> Run:
    return make_run(make_target(), published_at=at, published_epoch=epoch, publications=1, **fields)


def messages(valkey: Valkey, queue: str = "celery") -> list[dict[str, Any]]:
    return [json.loads(text) for text in valkey.messages(queue)]


def to_publish(now: datetime) -> set[Run]:
    return set(Run.objects.to_publish(now))


def test_a_ready_run_is_published_once_with_nothing_but_its_name(
    app: Celery, valkey: Valkey
) -> None:
    run = ready(kwargs={"secret": "s3cret"})
    assert outbox.publish_ready(app, epoch="e1", now=NOW) == 1
    assert outbox.publish_ready(app, epoch="e1", now=NOW + 60 * SECOND) == 0
    [message] = messages(valkey)
    assert message["headers"]["jobs_run"] == [str(run.pk), 1]
    assert message["headers"]["id"] == str(run.pk)
    assert message["headers"]["task"] == "tests.testapp.jobs.note"
    assert "s3cret" not in json.dumps(message)
    run.refresh_from_db()
    assert (run.published_at, run.published_epoch, run.publications) == (NOW, "e1", 1)


def test_limits_of_internal_jobs_are_the_pools_and_of_external_ones_our_own(
    app: Celery, valkey: Valkey
) -> None:
    ready(hard_limit=timedelta(seconds=10))
    outbox.publish_ready(app, epoch="e1", now=NOW)
    make_run(make_target(make_job(kind="command", internal=False)), publish_at=NOW)
    outbox.publish_ready(app, epoch="e1", now=NOW)
    external, internal = messages(valkey)
    assert internal["headers"]["timelimit"] == [10.0, 9.0]
    assert external["headers"]["timelimit"] == [None, None]
    assert external["headers"]["task"] == "workers.commands.run_command"


def test_routing_of_the_job_is_passed_on(app: Celery, valkey: Valkey) -> None:
    ready(options={"queue": "slow", "priority": 3, "headers": {"team": "a"}})
    outbox.publish_ready(app, epoch="e1", now=NOW)
    [message] = messages(valkey, "slow")
    assert message["headers"]["team"] == "a"
    assert message["properties"]["priority"] == 3


def test_lanes_are_published_and_delivered_in_order_before_all_else(
    app: Celery, valkey: Valkey, settings: Any
) -> None:
    settings.JOBS_PUBLISH_BATCH = 2
    lanes = [None, 3, 1, None, 2, 7]
    made = [
        make_run(publish_at=NOW - SECOND * number, priority=lane)
        for number, lane in enumerate(lanes)
    ]
    sent: list[Run] = []
    while outbox.publish_ready(app, epoch="e1", now=NOW):
        sent += Run.objects.filter(published_at__isnull=False).exclude(pk__in=[r.pk for r in sent])
    assert [set(sent[n : n + 2]) for n in (0, 2, 4)] == [
        {made[2], made[4]},
        {made[1], made[5]},
        {made[3], made[0]},
    ]
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        read = [queue.get(block=False).headers["id"] for _ in lanes]
    assert read == [str(made[n].pk) for n in (2, 4, 1, 5, 3, 0)]


def test_a_lane_counts_more_than_the_priority_that_the_job_asks_for(
    app: Celery, valkey: Valkey
) -> None:
    job = make_job(options={"priority": 0})
    make_run(make_target(job, "a"), publish_at=NOW, priority=2)
    make_run(make_target(job, "b"), publish_at=NOW)
    outbox.publish_ready(app, epoch="e1", now=NOW)
    found = sorted(message["properties"]["priority"] for message in messages(valkey))
    assert found == [0, 3]


@pytest.mark.parametrize(
    ("url", "priorities"),
    [
        ("redis://127.0.0.1:1/0", [0, 3, 6, 6, 9]),
        # There 9 comes first, and 0 is what messages without a priority have.
        ("amqp://127.0.0.1:1//", [9, 6, 3, 3, None]),
    ],
)
def test_what_comes_first_is_said_as_the_broker_understands_it(
    url: str, priorities: list[int | None]
) -> None:
    other = Celery(broker=url, set_as_current=False)
    assert [broker.priority_of(other, lane) for lane in (1, 2, 3, 9, None)] == priorities


def test_a_task_without_a_priority_stands_in_line_with_runs(app: Celery, valkey: Valkey) -> None:
    app.tasks["tests.testapp.jobs.plain"].delay()
    [message] = messages(valkey)
    assert message["properties"]["priority"] == broker.NORMAL


def test_tasks_of_other_people_carry_their_own_arguments(app: Celery, valkey: Valkey) -> None:
    make_run(
        make_target(
            make_job(declared_in="periodic_task", args=[1], kwargs={"a": 1}), kwargs={"b": 2}
        ),
        publish_at=NOW,
        kwargs={"a": 3},
    )
    outbox.publish_ready(app, epoch="e1", now=NOW)
    [message] = messages(valkey)
    assert message["headers"]["argsrepr"] == "[1]"
    assert message["headers"]["kwargsrepr"] == "{'a': 3, 'b': 2}"


def test_a_run_whose_arguments_cannot_be_sent_stops_no_other(app: Celery, valkey: Valkey) -> None:
    ready(declared_in="settings", args={"not": "a list"})
    good = ready()
    assert outbox.publish_ready(app, epoch="e1", now=NOW) == 1
    assert [message["headers"]["id"] for message in messages(valkey)] == [str(good.pk)]
    bad = Run.objects.exclude(pk=good.pk).get()
    assert (bad.state, bad.reason) == (State.FAILED, "permanent")
    assert "cannot be published" in bad.error


def test_a_run_that_waits_is_not_published(app: Celery) -> None:
    target = make_target()
    first = make_run(target, publish_at=NOW)
    make_run(target, waiting_on=first)
    make_run(publish_at=NOW + SECOND)
    assert outbox.publish_ready(app, epoch="e1", now=NOW) == 1


def test_another_beat_leaves_reserved_entries_alone_and_takes_over_a_dead_ones() -> None:
    run = ready()
    Run.objects.filter(pk=run.pk).update(publish_at=NOW + outbox.RESERVED)
    assert to_publish(NOW + SECOND) == set()
    assert to_publish(NOW + outbox.RESERVED) == {run}


def test_a_stamp_does_not_hide_a_run_that_has_begun_to_wait(app: Celery) -> None:
    run = ready()
    stale = Run.objects.select_related("job", "target").get(pk=run.pk)
    # The worker was faster than the stamp: the seat was taken, and the run waits for it.
    Run.objects.filter(pk=run.pk).update(publish_at=None, waiting_for="ledger")
    outbox.publish(app, [stale], epoch="e1", now=NOW)
    run.refresh_from_db()
    assert run.published_at is None


def test_a_broker_that_does_not_answer_leaves_runs_in_the_outbox(app: Celery) -> None:
    ready()
    url = "redis+socket:///nonexistent/broker.sock?virtual_host=0"
    lonely = Celery("lonely", broker=url, set_as_current=False)
    lonely.conf.broker_transport_options = {"socket_connect_timeout": 0.2}
    assert outbox.publish_ready(lonely, epoch="e1", now=NOW) == 0
    assert broker.epoch(lonely) is None
    assert broker.held(lonely, "celery", read=True) is None
    assert outbox.publish_ready(app, epoch="e1", now=NOW + outbox.RESERVED) == 1


def test_the_epoch_lives_as_long_as_the_brokers_memory(app: Celery, valkey: Valkey) -> None:
    first = broker.epoch(app)
    assert first
    assert broker.epoch(app) == first
    with valkey.client() as client:
        client.flushall()
    assert broker.epoch(app) not in (first, None)


def test_after_a_lost_memory_everything_of_other_epochs_is_published_again() -> None:
    lost, kept = published("e1"), published("e2")
    begun = published("e1", state=State.RUNNING)
    assert evidence.forget_other_epochs("e2", now=NOW + SECOND) == 1
    assert to_publish(NOW + SECOND) == {lost}
    assert Run.objects.filter(pk__in=[kept.pk, begun.pk], published_at=NOW).count() == 2


class TestComparison:
    def compare(self, app: Celery, comparison: evidence.Comparison, seconds: float) -> int:
        return comparison.compare(app, now=NOW + timedelta(seconds=seconds))

    def test_what_is_missing_twice_in_a_row_is_published_again(self, app: Celery) -> None:
        run = published()
        comparison = evidence.Comparison()
        assert self.compare(app, comparison, 6) == 0
        assert self.compare(app, comparison, 8) == 0  # too early to compare again
        assert self.compare(app, comparison, 12) == 1
        assert to_publish(NOW + 12 * SECOND) == {run}

    def test_what_waits_on_the_broker_is_left_alone_however_long(self, app: Celery) -> None:
        for _ in range(3):
            ready()
        outbox.publish_ready(app, epoch="e1", now=NOW)
        comparison = evidence.Comparison()
        for seconds in range(6, 600, 6):
            assert self.compare(app, comparison, seconds) == 0

    def test_what_a_worker_has_taken_off_without_beginning_is_left_alone(
        self, app: Celery, valkey: Valkey
    ) -> None:
        run = ready()
        outbox.publish_ready(app, epoch="e1", now=NOW)
        self.take_off(valkey, run)
        comparison = evidence.Comparison()
        for seconds in range(6, 200, 6):
            assert self.compare(app, comparison, seconds) == 0

    def test_a_loss_behind_other_peoples_messages_is_found(
        self, app: Celery, valkey: Valkey
    ) -> None:
        published()
        with valkey.client() as client:
            client.lpush("celery", *["{}"] * 10)
        comparison = evidence.Comparison()
        counts = [self.compare(app, comparison, seconds) for seconds in range(6, 80, 6)]
        assert sum(counts) == 1

    def test_a_run_that_is_lost_again_and_again_backs_off(self, app: Celery) -> None:
        run = published()
        comparison = evidence.Comparison()
        again = []
        for seconds in range(6, 200, 6):
            if self.compare(app, comparison, seconds):
                again.append(seconds)
                at = NOW + timedelta(seconds=seconds)
                Run.objects.filter(pk=run.pk).update(
                    published_at=at, publish_at=None, publications=len(again) + 1
                )
        assert [later - sooner for sooner, later in itertools.pairwise(again)] == [
            24,
            42,
            84,
        ]

    @staticmethod
    def take_off(valkey: Valkey, run: Run) -> None:
        """Do what kombu does when a worker receives a message: list -> hash of unacknowledged."""
        with valkey.client() as client:
            message = client.rpop(NORMAL_LIST)
            text = message if isinstance(message, str) else message.decode()
            client.hset("unacked", "tag", json.dumps([json.loads(text), "celery", "celery"]))

    def test_what_a_dead_worker_had_taken_off_is_published_again(
        self, app: Celery, valkey: Valkey
    ) -> None:
        run = ready()
        outbox.publish_ready(app, epoch="e1", now=NOW)
        self.take_off(valkey, run)
        Process.objects.create(
            kind=ProcessKind.WORKER, name="w", host="h", pid=1, started_at=NOW, seen_at=NOW
        )
        bury = evidence.bury_silent_workers
        assert bury(app, silent_since=NOW - SECOND, now=NOW) == 0
        assert bury(app, silent_since=NOW + SECOND, now=NOW + SECOND) == 1
        assert not Process.objects.exists()
        assert to_publish(NOW + SECOND) == {run}


class TestSeveralRunsInOneMessage:
    def published(self, app: Celery, number: int = 3) -> list[Run]:
        job = make_job(batch=10)
        rows = [make_run(make_target(job, f"{at}"), publish_at=NOW) for at in range(number)]
        assert outbox.publish_ready(app, epoch="e1", now=NOW) == number
        return rows

    def test_one_message_names_them_all(self, app: Celery, valkey: Valkey) -> None:
        rows = self.published(app)
        [message] = messages(valkey)
        names = message["headers"]["jobs_batch"]
        assert sorted(names) == sorted([str(run.pk), 1] for run in rows)
        assert message["headers"]["jobs_run"] == names[0]
        assert message["headers"]["id"] == names[0][0]
        assert Run.objects.filter(published_at=NOW, publications=1).count() == 3

    def test_what_waits_in_one_message_is_not_lost(self, app: Celery) -> None:
        self.published(app)
        comparison = evidence.Comparison()
        for seconds in range(6, 200, 6):
            assert comparison.compare(app, now=NOW + timedelta(seconds=seconds)) == 0

    def test_when_the_message_is_lost_all_are_published_again(
        self, app: Celery, valkey: Valkey
    ) -> None:
        rows = self.published(app)
        with valkey.client() as client:
            client.delete(NORMAL_LIST)
        comparison = evidence.Comparison()
        again = [comparison.compare(app, now=NOW + at * SECOND) for at in range(6, 40, 6)]
        assert sum(again) == 3
        assert to_publish(NOW + 60 * SECOND) == set(rows)

    def test_what_a_dead_worker_had_taken_off_is_published_again(
        self, app: Celery, valkey: Valkey
    ) -> None:
        rows = self.published(app)
        TestComparison.take_off(valkey, rows[0])
        Process.objects.create(
            kind=ProcessKind.WORKER, name="w", host="h", pid=1, started_at=NOW, seen_at=NOW
        )
        assert evidence.bury_silent_workers(app, silent_since=NOW + SECOND, now=NOW + SECOND) == 3
        assert to_publish(NOW + SECOND) == set(rows)


@pytest.mark.parametrize(
    ("publications", "seconds"), [(0, 10), (1, 10), (2, 20), (3, 40), (7, 600), (500, 600)]
)
def test_the_back_off_doubles_up_to_ten_minutes(publications: int, seconds: int) -> None:
    assert evidence.back_off(publications) == timedelta(seconds=seconds)


@override_settings(JOBS_CATCH_UP_BURST=10, JOBS_CATCH_UP_RATE=2.0)
def test_the_bucket_of_catch_up_is_shared_and_fills_over_time() -> None:
    from scheduling import catch_up

    assert catch_up.take(7, now=NOW) == 7
    assert catch_up.take(7, now=NOW) == 3
    assert catch_up.take(7, now=NOW) == 0
    assert catch_up.take(7, now=NOW + 2 * SECOND) == 4
    assert catch_up.take(99, now=NOW + timedelta(hours=1)) == 10
