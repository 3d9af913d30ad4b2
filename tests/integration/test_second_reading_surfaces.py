"""What a second reading of the surfaces found: command line, declarations, crontab, export."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling import job, runs
from scheduling.errors import InvalidDeclaration
from scheduling.models import Run, State
from scheduling.registry import registry
from tests.factories import NOW, make_job, make_target
from tests.integration.admin_pages import log_in, page
from tests.integration.cli import jobs
from tests.integration.crontab_file import File

pytestmark = pytest.mark.django_db

RANGE = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T02:00:00Z")
ENDS = datetime(2027, 1, 2, tzinfo=UTC)


@pytest.fixture
def crontab(tmp_path: Path) -> File:
    return File(tmp_path / "crontab")


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    before = dict(registry._by_name)
    yield
    registry._by_name = before


def _work() -> None: ...


# --- a job that an import made


def test_a_job_of_a_crontab_can_be_saved_on_its_page(crontab: File) -> None:
    made = crontab.job("0 3 * * * python manage.py clearsessions")
    address = page("scheduling_job_change", made.pk)
    client = log_in(superuser=True)
    shown = client.get(address).context
    data: dict[str, Any] = {}
    for field in [
        *shown["adminform"].form,
        *(f for s in shown["inline_admin_formsets"] for f in s.formset.management_form),
    ]:
        widget, value = field.field.widget, field.value()
        if value is True:
            data[field.html_name] = "on"
        elif value is not None and value is not False:
            data[field.html_name] = widget.format_value(value)
    data = {name: value for name, value in data.items() if value is not None}

    answer = client.post(address, data | {"overlap": "allow"})

    errors = answer.context and answer.context["adminform"].form.errors
    assert not errors, errors
    made.refresh_from_db()
    assert made.overlap == "allow"


def test_the_export_of_a_job_of_a_crontab_says_nothing_that_code_may_not_say(
    crontab: File,
) -> None:
    made = crontab.job("0 3 * * * python manage.py clearsessions")

    (exported,) = jobs("export", "--job", made.name, "--json").document()["jobs"]

    assert "options" not in exported["keywords"]


# --- one wrong name


def test_a_queue_with_a_long_name_keeps_no_other_job_from_being_claimed() -> None:
    make_target(
        make_job("bad", schedule="every 1h", options={"queue": "q" * 201}), next_fire_at=NOW
    )
    make_target(make_job("good", schedule="every 1h"), next_fire_at=NOW)

    runs.claim(now=NOW, limit=100)

    assert Run.objects.filter(name="good").exists()


def test_a_lock_with_a_long_name_does_not_break_the_start_of_its_run() -> None:
    make_target(make_job("bad", schedule="every 1h", locks=["x" * 301]), next_fire_at=NOW)
    (run,) = runs.claim(now=NOW, limit=100).runs

    runs.start(run.pk, run.attempt, worker="w", now=NOW)

    run.refresh_from_db()
    assert run.state == State.RUNNING


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"queue": "q" * 201}, id="queue"),
        pytest.param({"options": {"queue": "q" * 201}}, id="queue in options"),
        pytest.param({"locks": ["x" * 301]}, id="lock"),
        pytest.param({"circuit": " payments "}, id="circuit with blanks around it"),
        pytest.param({"calendar": "frankfurt "}, id="calendar with a blank behind it"),
        pytest.param(
            {"first_run": ENDS + timedelta(days=1), "ends_at": ENDS}, id="first run after the end"
        ),
        pytest.param(
            {"first_run": ENDS - timedelta(days=1), "starts_at": ENDS},
            id="first run before the start",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeclaration):
        job("every 1h", name="surfaces", **wrong)(_work)


# --- the command line


def test_all_means_also_jobs_whose_targets_have_the_schedules() -> None:
    make_target(make_job("ping", schedule="manual"), "a", schedule="every 1h")

    told = jobs("backfill", "--all", *RANGE, "--dry-run", "--json")

    assert len(told.document()["fires"]) == 2


def test_a_second_pause_with_another_end_is_not_dropped_in_silence() -> None:
    make_job("close")
    jobs("pause", "--job", "close", "--until", "2099-01-01T00:00:00Z")

    told = jobs("pause", "--job", "close", "--until", "2099-02-01T00:00:00Z")

    assert "already" in told.stdout + told.stderr


def test_why_up_to_a_time_without_fires_says_something() -> None:
    make_target(make_job("close", schedule="every 1h"), next_fire_at=NOW)

    told = jobs("why", "close", "--to", "2026-01-01T00:00:00Z")

    assert told.stdout.strip()
