"""What becomes of a saved form: overrides for declared jobs, columns for those made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from scheduling import runs, sync
from scheduling.declarations import columns
from scheduling.declarations.rows import ROW_FIELDS
from scheduling.models import Calendar, Circuit, Job
from scheduling.models.job import DeclaredIn

# Runs carry the name, and `H` and `spread` schedules are drawn from it; the first run is past.
IDENTITY = {"name", "first_run"}
# Said by the operator alone: no declaration has them.
UNDECLARED = ("lock_resource",)
EDITABLE = (*columns.FIELDS, "runs_left", *UNDECLARED)
# Said by a PeriodicTask row, which has a form of its own.
OF_THE_ROW = {*ROW_FIELDS, "runs_left"}


def in_form(column: str) -> str:
    """Give the form's name of a column."""
    return columns.DECLARED_AS.get(column, column)


def fixed_fields(job: Job) -> list[str]:
    """The fields of this job that the admin shows and does not change, as forms name them."""
    return [in_form(column) for column in _fixed(job)]


def _fixed(job: Job) -> list[str]:
    if job.retired_at is not None:
        return [*IDENTITY, *EDITABLE]
    fixed = set(IDENTITY)
    if job.declared_in != DeclaredIn.ADMIN:
        fixed |= columns.FIXED
    if job.periodic_task_id is not None:
        fixed |= OF_THE_ROW
    return sorted(fixed)


def create(job: Job, *, now: datetime) -> None:
    """Store a job made here, with its plain target and first fire."""
    job.declared_in = DeclaredIn.ADMIN
    job.save(force_insert=True)
    runs.adopt(job, now=now)


def change(
    job: Job, values: Mapping[str, Any], changed: Sequence[str], *, by: str, now: datetime
) -> None:
    """Write the changed fields. `job` may already carry them: the stored row decides."""
    fixed = _fixed(job)
    # The form empties what another kind would run, whether it was touched or not.
    names = {*changed, "task", "command"} if {"kind", "program"} & {*changed} else {*changed}
    wanted = {
        column: _stored(values[in_form(column)])
        for column in EDITABLE
        if in_form(column) in names and column not in fixed
    }
    stored = Job.objects.get(pk=job.pk)
    if stored.declared_in != DeclaredIn.ADMIN:
        said = {column: wanted.pop(column) for column in [*wanted] if column not in UNDECLARED}
        # Together: a schedule may fit its new calendar only, and not the old one.
        sync.set_overrides(stored, said, by=by, now=now)
    # Together: what to run is one decision over several columns.
    columns.write(stored, wanted, now=now)


def _stored(value: Any) -> Any:
    return value.name if isinstance(value, Calendar | Circuit) else value
