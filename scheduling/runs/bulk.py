"""Many rows in one statement: on PostgreSQL they go there as one JSON document.

Django's own bulk statements take a parameter for each value; with tables as wide as that of targets
the time goes there, inside of a transaction that must be short.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import CharField, Field, JSONField, Model, TextField
from django.db.models.expressions import DatabaseDefault

M = TypeVar("M", bound=Model)


def insert(
    rows: Sequence[M],
    varying: Sequence[str],
    *,
    same: Mapping[str, Any] | None = None,
    returning: Sequence[str] = (),
    unique: Sequence[str] = (),
    update: Sequence[str] = (),
) -> None:
    """Insert rows; `varying` are the columns (as attributes) in which they differ, `same` what all
    of them have, and the columns' own defaults would not give.

    With `update`: a row that there is already, by its `unique` columns, gets these columns instead.
    `returning`: the columns by which rows are found again that are to have their ids.
    """
    if not rows:
        return
    model = type(rows[0])
    same = dict(same or {})
    if connection.vendor != "postgresql":
        if update:
            names = {field.attname: field.name for field in model._meta.concrete_fields}
            model._base_manager.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=[names[each] for each in unique],
                update_fields=[names[each] for each in update],
            )
        else:
            model._base_manager.bulk_create(rows)
        if same:
            made = model._base_manager.filter(pk__in=[row.pk for row in rows])
            made.update(**same)
            _set(rows, same)
        return
    fields = {field.attname: field for field in model._meta.concrete_fields}
    constants: dict[str, Any] = {}
    for name, field in fields.items():
        if field.primary_key or name in varying:
            continue
        value = same[name] if name in same else getattr(rows[0], name)
        if not isinstance(value, DatabaseDefault):
            constants[name] = field.get_db_prep_save(value, connection)
    _set(rows, same)
    columns = [fields[name] for name in (*varying, *constants)]
    quote = connection.ops.quote_name
    conflict = ""
    if update:
        wanted = ", ".join(
            f"{_column(fields[name])} = EXCLUDED.{_column(fields[name])}" for name in update
        )
        keys = ", ".join(_column(fields[name]) for name in unique)
        conflict = f"ON CONFLICT ({keys}) DO UPDATE SET {wanted}"
    found = ", ".join(_column(fields[name]) for name in (*returning, "id"))
    values = [f"v.{name}" for name in varying]
    # With their types: a bare NULL would be a text.
    values += [f"%s::{_type_of(fields[name])}" for name in constants]
    sql = (
        f"INSERT INTO {quote(model._meta.db_table)} "
        f"({', '.join(_column(field) for field in columns)}) "
        f"SELECT {', '.join(values)} FROM {_recordset([fields[name] for name in varying])} "
        f"{conflict} {f'RETURNING {found}' if returning else ''}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*constants.values(), _document(rows, fields, varying)])
        if returning:
            ids = {tuple(row[:-1]): row[-1] for row in cursor.fetchall()}
            for each in rows:
                each.pk = ids[tuple(getattr(each, name) for name in returning)]


def write(rows: Sequence[M], columns: Sequence[str]) -> None:
    """Write these columns (as attributes) of rows that there are, and that are locked."""
    if not rows:
        return
    model = type(rows[0])
    fields = {field.attname: field for field in model._meta.concrete_fields}
    names = ("id", *columns)
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    if connection.vendor != "postgresql":
        # `bulk_update` has a CASE for each column: fifty times as slow.
        wanted = ", ".join(f"{_column(fields[name])} = %s" for name in columns)
        values = [_prepared(row, [fields[name] for name in (*columns, "id")]) for row in rows]
        with connection.cursor() as cursor:
            cursor.executemany(f"UPDATE {table} SET {wanted} WHERE {quote('id')} = %s", values)
        return
    wanted = ", ".join(f"{_column(fields[name])} = v.{name}" for name in columns)
    sql = (
        f"UPDATE {table} SET {wanted} FROM {_recordset([fields[name] for name in names])} "
        f"WHERE {table}.{quote('id')} = v.id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [_document(rows, fields, names)])


def _prepared(row: Model, fields: Sequence[Field[Any, Any]]) -> list[Any]:
    return [each.get_db_prep_save(getattr(row, each.attname), connection) for each in fields]


def _column(field: Field[Any, Any]) -> str:
    return connection.ops.quote_name(str(field.column))


def _set(rows: Sequence[Model], values: Mapping[str, Any]) -> None:
    for row in rows:
        for name, value in values.items():
            setattr(row, name, value)


def _recordset(fields: Sequence[Field[Any, Any]]) -> str:
    columns = ", ".join(f"{field.attname} {_type_of(field)}" for field in fields)
    return f"jsonb_to_recordset(%s::jsonb) AS v({columns})"


def _type_of(field: Field[Any, Any]) -> str:
    # A cast to varchar(300) would cut what is too long, in silence.
    if isinstance(field, CharField | TextField):
        return "text"
    return str(field.rel_db_type(connection) if field.primary_key else field.db_type(connection))


def _document(
    rows: Sequence[Model], fields: Mapping[str, Field[Any, Any]], names: Sequence[str]
) -> str:
    plain = {name for name in names if isinstance(fields[name], JSONField)}
    return json.dumps(
        [
            {
                name: getattr(row, name) if name in plain else _plain(getattr(row, name))
                for name in names
            }
            for row in rows
        ]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, timedelta):
        return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
    return value
