"""What runs refer to is there: foreign keys on SQLite, triggers on PostgreSQL, one promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from scheduling import runs
from scheduling.models import FollowUp, Run, Target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.chains import job, tie
from tests.integration.fed_jobs import fed_job, pooled
from tests.integration.rivals import in_thread, needs_row_locks
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

needs_triggers = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="of PostgreSQL")
# A column of runs, and what there is not.
NOWHERE: dict[str, Any] = {
    "target_id": 2**40,
    "waiting_on_id": uuid4(),
    "parent_id": uuid4(),
    "root_id": uuid4(),
    "rule_id": 2**40,
}


@pytest.mark.parametrize("column", NOWHERE)
def test_no_run_is_made_that_refers_to_what_is_not_there(column: str) -> None:
    fields = {**_plain(), column: NOWHERE[column]}
    with pytest.raises(IntegrityError):
        Run.objects.create(**fields)
    assert not Run.objects.exists()


@pytest.mark.parametrize("column", NOWHERE)
def test_no_run_is_changed_so_that_it_does(column: str) -> None:
    run = make_run()
    with pytest.raises(IntegrityError):
        Run.objects.filter(pk=run.pk).update(**{column: NOWHERE[column]})
    assert getattr(Run.objects.get(), column) == getattr(run, column)


def test_one_wrong_run_of_many_is_enough() -> None:
    rows = [Run(**_plain()) for _ in range(20)]
    rows[13].target_id = NOWHERE["target_id"]
    with pytest.raises(IntegrityError):
        Run.objects.bulk_create(rows)
    assert not Run.objects.exists()


@pytest.mark.parametrize("column", NOWHERE)
def test_what_a_run_refers_to_is_not_deleted(column: str) -> None:
    leader = job("leader")
    first = make_run(Target.objects.get(job=leader))
    rule = tie(leader, job("follower"))
    followers_target = Target.objects.get(job__name="follower")
    there: dict[str, Any] = {
        "target_id": followers_target,
        "waiting_on_id": first,
        "parent_id": first,
        "root_id": first,
        "rule_id": rule,
    }
    make_run(**{"target": followers_target, column.removesuffix("_id"): there[column]})
    with pytest.raises(IntegrityError):
        _delete(there[column])
    assert type(there[column]).objects.filter(pk=there[column].pk).exists()


def test_a_run_that_only_seems_to_be_a_pick_is_looked_at() -> None:
    """A loaded one, say: what locks its targets says so."""
    with pytest.raises(IntegrityError):
        Run.objects.create(**{**_plain(), "target_id": 2**40, "strategy": "stalest"})
    assert not Run.objects.exists()


@needs_triggers
def test_who_has_another_search_path_is_answered_of_our_tables() -> None:
    """As a restored dump has none, and a schema for each tenant has tables of these names."""
    first = make_run()
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = ''")
    try:
        with pytest.raises(IntegrityError), connection.cursor() as cursor:
            cursor.execute("DELETE FROM public.scheduling_target WHERE id = %s", [first.target_id])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE public.scheduling_run SET parent_id = id")
    finally:
        connection.close()
    assert Run.objects.get().parent == first


@needs_triggers
def test_a_run_that_gets_another_id_is_looked_at_under_that() -> None:
    run = make_run()
    both = "UPDATE scheduling_run SET parent_id = %s; UPDATE scheduling_run SET id = %s"
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(both, [uuid4(), uuid4()])
    assert Run.objects.get() == run


def test_within_a_transaction_the_order_does_not_matter() -> None:
    """As of foreign keys that are looked at before the commit: dumps are loaded in any order."""
    parent = Run(**_plain(), id=uuid4())
    with transaction.atomic():
        child = Run.objects.create(**_plain(), parent_id=parent.pk, root_id=parent.pk)
        parent.save(force_insert=True)
    assert Run.objects.get(pk=child.pk).parent == parent
    with transaction.atomic():
        _delete(parent)
        Run.objects.filter(pk=child.pk).update(parent=None, root=None)
    with transaction.atomic():
        lost = Run.objects.create(**_plain(), parent_id=uuid4())
        Run.objects.filter(pk=lost.pk).update(parent=None)
    with transaction.atomic():
        gone = Run.objects.create(**_plain(), parent_id=uuid4())
        _delete(gone)
    assert set(Run.objects.all()) == {child, lost}


def test_a_job_is_deleted_with_all_that_is_its_own() -> None:
    leader, follower = job("leader"), job("follower")
    first = make_run(Target.objects.get(job=leader))
    rule = tie(leader, follower)
    child = make_run(Target.objects.get(job=follower), parent=first, root=first, rule=rule)
    make_run(first.target, waiting_on=first)
    leader.delete()
    child = Run.objects.get()
    assert (child.parent, child.root, child.rule) == (None, None, None)
    assert not FollowUp.objects.filter(pk=rule.pk).exists()


@needs_row_locks
def test_nobody_deletes_a_target_while_a_run_of_it_is_being_made() -> None:
    target = make_target()

    def make() -> None:
        make_run(target)
        connection.check_constraints()  # as the commit will, and a worker may be slow after it

    assert _while_open(make, lambda: _delete(target)) == [IntegrityError]
    assert Run.objects.get().target == target


@needs_row_locks
def test_nobody_deletes_a_target_while_it_is_being_picked() -> None:
    """Of picks only the target is looked at, by the statement that makes the run."""
    [target] = pooled(fed_job(), 1)

    def pick() -> None:
        assert runs.select(target.job, "oldest_scheduled", 1, now=NOW)

    assert _while_open(pick, lambda: _delete(target)) == [IntegrityError]
    assert Run.objects.get().target == target


@needs_row_locks
def test_nobody_makes_a_run_of_a_target_that_is_being_deleted() -> None:
    target = make_target()
    assert _while_open(lambda: _delete(target), lambda: make_run(target)) == [IntegrityError]
    assert not Run.objects.exists()


@needs_row_locks
def test_who_deletes_a_run_waits_for_who_deletes_the_one_that_followed_it() -> None:
    first = make_run()
    follower = make_run(parent=first)
    assert _while_open(lambda: _delete(follower), lambda: _delete(first)) == []
    assert not Run.objects.exists()


@needs_row_locks
def test_nobody_follows_a_run_that_is_being_deleted() -> None:
    first, target = make_run(), make_target()
    follow = partial(make_run, target, parent=first)
    assert _while_open(lambda: _delete(first), follow) == [IntegrityError]
    assert not Run.objects.exists()


def _while_open(first: Callable[[], object], then: Callable[[], object]) -> list[type[Exception]]:
    """Do `then` beside a transaction that has done `first`, which it waits for; give its errors."""
    errors: list[Exception] = []
    with transaction.atomic():
        first()
        thread = in_thread(then, errors)
        wait_for(_somebody_waits)
    thread.join(60)
    assert not thread.is_alive()
    return [type(error) for error in errors]


@pytest.fixture
def migrated_back() -> Iterator[None]:
    MigrationExecutor(connection).migrate([("scheduling", "0006_one_history")])
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@needs_triggers
@pytest.mark.usefixtures("migrated_back")
def test_the_way_back_leads_to_foreign_keys() -> None:
    assert _foreign_keys() == set(NOWHERE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'scheduling%'")
        assert cursor.fetchall() == []


@needs_triggers
def test_the_way_there_leads_to_none() -> None:
    assert _foreign_keys() == set()


def _plain() -> dict[str, Any]:
    target = make_target(make_job())
    return {
        "job": target.job,
        "target": target,
        "name": target.job.name,
        "scheduled_at": NOW,
        "created_at": NOW,
        "cause": "manual",
        "state": "queued",
    }


def _delete(row: Any) -> None:
    """Without what Django does for its references."""
    type(row)._base_manager.filter(pk=row.pk)._raw_delete("default")


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def _foreign_keys() -> set[str]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, Run._meta.db_table)
    return {each["columns"][0] for each in constraints.values() if each["foreign_key"]}
