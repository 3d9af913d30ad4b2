"""What the models promise is there in the database after the migrations, on either of them."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from scheduling.ledger import last_runs_of
from scheduling.models import Run
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

MODELS = list(apps.get_app_config("scheduling").get_models())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_each_constraint_and_index_is_in_the_database(model: type[models.Model]) -> None:
    """Django may drop one by mistake when a field changes: its own books would not tell."""
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, model._meta.db_table)
    promised = {each.name for each in (*model._meta.constraints, *model._meta.indexes)}
    assert promised <= set(there), promised - set(there)
    for constraint in model._meta.constraints:
        if isinstance(constraint, models.UniqueConstraint):
            assert there[constraint.name]["unique"]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="of PostgreSQL's statistics")
def test_the_newest_run_of_any_job_is_found_by_its_index_though_nearly_all_are_of_one() -> None:
    """PostgreSQL would conclude from its sample that there is one job, and read all runs of it."""
    target = make_target()
    Run.objects.bulk_create(
        Run(
            job=target.job,
            target=target,
            name="large",
            cause="manual",
            state="succeeded",
            scheduled_at=NOW,
            created_at=NOW,
            ended_at=NOW,
        )
        for _ in range(5000)
    )
    lonely = make_run(make_target(make_job("lonely")))
    assert lonely.job is not None
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE scheduling_run")
        with CaptureQueriesContext(connection) as asked:
            assert last_runs_of([lonely.job.pk]) == {lonely.job.pk: lonely}
        cursor.execute(f"EXPLAIN {asked.captured_queries[0]['sql']}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "using run_history_of_job" in plan, plan
