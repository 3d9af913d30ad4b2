"""Fields that an operator has set: deploys leave them alone until they are reset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from scheduling import runs
from scheduling.declarations.columns import (
    FIELDS,
    FIXED,
    LOCKING,
    as_json,
    from_json,
    in_project_zone,
    write,
)
from scheduling.declarations.rows import ROW_FIELDS
from scheduling.declared_values import as_first_run, as_ping_url
from scheduling.errors import InvalidDeclaration
from scheduling.models import Job
from scheduling.models.job import DeclaredIn
from scheduling.schedules import parse, require_supported

CODE = (DeclaredIn.COMMAND, DeclaredIn.FUNCTION, DeclaredIn.SETTINGS)
SETTABLE = (*FIELDS, "runs_left")


def set_override(job: Job, field: str, value: Any, *, by: str, now: datetime) -> None:
    """Set a field of a job by hand, as `set_overrides` does."""
    set_overrides(job, {field: value}, by=by, now=now)


def set_overrides(job: Job, values: Mapping[str, Any], *, by: str, now: datetime) -> None:
    """Set fields of a job by hand, together. A value equal to the code's is no override.

    The number of runs that the code declares begins the count anew. Jobs that no code declares
    are simply edited. Raises InvalidDeclaration for a field or value that cannot be set,
    InvalidSchedule for a schedule that cannot be read.
    """
    cleaned = {field: _clean(job, field, value) for field, value in values.items()}
    with transaction.atomic():
        stored = _locked(job, *cleaned)
        overrides = dict(stored.overrides)
        if stored.declared_in in CODE:
            for field, value in cleaned.items():
                code = _code_of(stored, field)
                if as_json(value) == code:
                    overrides.pop(field, None)
                else:
                    overrides[field] = {"code": code, "by": by, "at": now.isoformat()}
        write(stored, {"overrides": overrides, **cleaned}, now=now)
    job.refresh_from_db()


def reset_override(job: Job, field: str | None = None, *, now: datetime) -> list[str]:
    """Put a field, or all of them, back to the code's value; give the fields that changed.

    A declared number of runs begins anew if it is named, overridden or not.
    """
    with transaction.atomic():
        stored = _locked(job, field or "schedule")
        fields = [name for name in stored.overrides if field in (None, name)]
        if field == "runs_left" and not fields and stored.declared_runs is not None:
            fields = [field]
        values = {name: from_json(name, _code_of(stored, name)) for name in fields}
        kept = {name: stored.overrides[name] for name in stored.overrides if name not in fields}
        write(stored, {"overrides": kept, **values}, now=now)
    job.refresh_from_db()
    return fields


def _code_of(job: Job, field: str) -> Any:
    """What the code says, as JSON: of the number of runs not what is left of it."""
    if field == "runs_left":
        return job.declared_runs
    known = job.override_of(field)
    return known["code"] if known else as_json(getattr(job, field))


def _locked(job: Job, *fields: str) -> Job:
    if LOCKING.intersection(fields):
        # Targets before their job, as everybody locks them.
        runs.lock_for_edit(job)
    # Two operators may set two fields of the one JSON column at once.
    return Job.objects.select_for_update(no_key=True).get(pk=job.pk)


def _clean(job: Job, field: str, value: Any) -> Any:
    if field not in SETTABLE or (field in FIXED and job.declared_in in CODE):
        raise InvalidDeclaration(f"Job {job.name!r}: {field!r} cannot be set by hand")
    if job.periodic_task_id is not None and field in (*ROW_FIELDS, "runs_left"):
        raise InvalidDeclaration(
            f"Job {job.name!r}: {field!r} comes from its periodic task; edit it there"
        )
    if field == "schedule":
        return str(in_project_zone(require_supported(parse(str(value)))))
    if field == "first_run":
        return as_first_run(value, job.name, field)
    if field == "ping_url":
        return as_ping_url(value, job.name, field)
    column = Job._meta.get_field(field)
    assert isinstance(column, models.Field)
    try:
        return column.clean(value, job)
    except ValidationError as error:
        raise InvalidDeclaration(
            f"Job {job.name!r}: {field} cannot be {value!r}: {' '.join(error.messages)}"
        ) from error
