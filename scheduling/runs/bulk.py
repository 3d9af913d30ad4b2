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
    if connection.vendor == "postgresql":
        _set(rows, same or {})
        _insert_document(rows, varying, returning=returning, unique=unique, update=update)
    else:
        _insert_rows(rows, same or {}, unique=unique, update=update)


def _insert_rows(
    rows: Sequence[M], same: Mapping[str, Any], *, unique: Sequence[str], update: Sequence[str]
) -> None:
    model = type(rows[0])
    if update:
        names = {name: field.name for name, field in _fields_of(model).items()}
        model._base_manager.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=[names[each] for each in unique],
            update_fields=[names[each] for each in update],
        )
    else:
        model._base_manager.bulk_create(rows)
    if same:
        # Afterwards: what fills itself on saving (auto_now) takes no value before.
        made = model._base_manager.filter(pk__in=[row.pk for row in rows])
        made.update(**same)
        _set(rows, same)


def _insert_document(
    rows: Sequence[M],
    varying: Sequence[str],
    *,
    returning: Sequence[str],
    unique: Sequence[str],
    update: Sequence[str],
) -> None:
    fields = _fields_of(type(rows[0]))
    constants = _constants(rows[0], except_for=varying)
    columns = ", ".join(_column(fields[name]) for name in (*varying, *constants))
    values = [f"v.{name}" for name in varying]
    # With their types: a bare NULL would be a text.
    values += [f"%s::{_type_of(fields[name])}" for name in constants]
    conflict = ""
    if update:
        wanted = ", ".join(
            f"{_column(fields[name])} = EXCLUDED.{_column(fields[name])}" for name in update
        )
        keys = ", ".join(_column(fields[name]) for name in unique)
        conflict = f"ON CONFLICT ({keys}) DO UPDATE SET {wanted}"
    found = ", ".join(_column(fields[name]) for name in (*returning, "id"))
    sql = (
        f"INSERT INTO {_table_of(type(rows[0]))} ({columns}) "
        f"SELECT {', '.join(values)} FROM {_recordset([fields[name] for name in varying])} "
        f"{conflict} {f'RETURNING {found}' if returning else ''}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*constants.values(), _document(rows, fields, varying)])
        if returning:
            ids = {tuple(row[:-1]): row[-1] for row in cursor.fetchall()}
            for each in rows:
                each.pk = ids[tuple(getattr(each, name) for name in returning)]


def _constants(row: Model, *, except_for: Sequence[str]) -> dict[str, Any]:
    """The values of the columns in which rows do not differ, as the database takes them; without
    those that it fills by itself.
    """
    return {
        name: field.get_db_prep_save(value, connection)
        for name, field in _fields_of(type(row)).items()
        if not field.primary_key and name not in except_for
        if not isinstance(value := getattr(row, name), DatabaseDefault)
    }


def write(rows: Sequence[M], columns: Sequence[str]) -> None:
    """Write these columns (as attributes) of rows that there are, and that are locked."""
    if not rows:
        return
    if connection.vendor == "postgresql":
        _write_document(rows, columns)
    else:
        _write_rows(rows, columns)


def _write_rows(rows: Sequence[Model], columns: Sequence[str]) -> None:
    """`bulk_update` has a CASE for each column: fifty times as slow."""
    model = type(rows[0])
    fields = _fields_of(model)
    wanted = ", ".join(f"{_column(fields[name])} = %s" for name in columns)
    values = [_prepared(row, [fields[name] for name in (*columns, "id")]) for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {_table_of(model)} SET {wanted} WHERE id = %s", values)


def _write_document(rows: Sequence[Model], columns: Sequence[str]) -> None:
    model = type(rows[0])
    fields, names, table = _fields_of(model), ("id", *columns), _table_of(model)
    wanted = ", ".join(f"{_column(fields[name])} = v.{name}" for name in columns)
    sql = (
        f"UPDATE {table} SET {wanted} FROM {_recordset([fields[name] for name in names])} "
        f"WHERE {table}.id = v.id"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [_document(rows, fields, names)])


def _fields_of(model: type[Model]) -> dict[str, Field[Any, Any]]:
    return {field.attname: field for field in model._meta.concrete_fields}


def _table_of(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


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
