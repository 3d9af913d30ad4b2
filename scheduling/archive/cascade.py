"""Deleting runs with all that is theirs, in as few statements as the database allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from uuid import UUID

from django.db import connection
from django.db.models import CASCADE, SET_NULL

from scheduling.models import Run


def delete_runs(ids: Sequence[UUID]) -> None:
    """Delete them, what belongs to them, and their names in runs that followed them.

    Django says it with a dozen statements, and locks are held for as many turns to the server. On
    PostgreSQL one does it. The constraints are looked at then, for the rest of the transaction, as
    no limit of a statement's time holds for its commit.
    """
    if connection.vendor != "postgresql":
        Run.objects.filter(pk__in=ids).only("pk").delete()  # `only`: not their outputs
    elif ids:
        with connection.cursor() as cursor:
            cursor.execute(_statement(), {"ids": list(ids)})
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@cache
def _statement() -> str:
    """Read off the models, so that nothing is left out that comes later."""
    quote = connection.ops.quote_name
    runs = quote(Run._meta.db_table)
    steps: list[str] = []
    named: dict[str, list[str]] = defaultdict(list)
    for relation in Run._meta.related_objects:
        table = quote(relation.related_model._meta.db_table)
        column = quote(str(relation.field.column))
        if relation.on_delete is CASCADE:
            steps.append(f"DELETE FROM {table} WHERE {column} = ANY(%(ids)s)")
        elif relation.on_delete is SET_NULL:
            named[table].append(column)
    for table, columns in named.items():
        # One UPDATE for each table: a row must not be changed twice in a statement, or deleted too.
        emptied = ", ".join(
            f"{column} = CASE WHEN {column} = ANY(%(ids)s) THEN NULL ELSE {column} END"
            for column in columns
        )
        names_one = " OR ".join(f"{column} = ANY(%(ids)s)" for column in columns)
        others = " AND NOT id = ANY(%(ids)s)" if table == runs else ""
        steps.append(f"UPDATE {table} SET {emptied} WHERE ({names_one}){others}")
    parts = ", ".join(f"step_{number} AS ({step})" for number, step in enumerate(steps))
    return f"WITH {parts} DELETE FROM {runs} WHERE id = ANY(%(ids)s)"
