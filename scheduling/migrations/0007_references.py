"""PostgreSQL looks at what runs refer to only where they do.

A foreign key is looked at for each run when its transaction commits, five of them, also the four
that are nearly always empty: a fifth of what it costs to pick a target. Triggers promise the same:
a run refers to rows that are there, and nothing is deleted that a run refers to. As foreign keys
do, they lock what is referred to (FOR KEY SHARE), so that nobody deletes it before the transaction
ends. They count on READ COMMITTED, PostgreSQL's default: each query sees what is committed by then.

Runs of picks are made by the very statement that locks and marks their targets (runs.selecting),
which says so: these targets are there, and are not looked up a second time.

To Django all five are foreign keys; on SQLite, and in tests without migrations, they are.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

RUNS = "scheduling_run"
# Of a pick, in a transaction that says that it has locked the targets of its picks.
PICKED = "NEW.strategy <> '' AND coalesce(current_setting('beatkeeper.picks', true), '') = 'on'"
# A column of runs, the table that it refers to, and which new runs are looked at.
REFERENCES = (
    ("target_id", "scheduling_target", f"NEW.target_id IS NOT NULL AND NOT ({PICKED})"),
    ("waiting_on_id", RUNS, "NEW.waiting_on_id IS NOT NULL"),
    ("parent_id", RUNS, "NEW.parent_id IS NOT NULL"),
    ("root_id", RUNS, "NEW.root_id IS NOT NULL"),
    ("rule_id", "scheduling_followup", "NEW.rule_id IS NOT NULL"),
)

# In the order in which everybody else comes to them; a run is locked after its target.
LOCK = "LOCK TABLE scheduling_target, scheduling_followup, scheduling_run IN ACCESS EXCLUSIVE MODE"

# Before the commit, as the row may be another one by then: it refers to something that is there.
# Tables with their schema: whoever calls may have another search path, as a restored dump has.
IS_THERE = """
CREATE FUNCTION {schema}.scheduling_run_{column}_is_there() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM {schema}.{table} WHERE id = NEW.{column} FOR KEY SHARE;
    IF NOT FOUND AND EXISTS (
        SELECT FROM {schema}.scheduling_run WHERE id = NEW.id AND {column} = NEW.{column}
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('run %s has {column} %s, which is not there', NEW.id, NEW.{column}),
            TABLE = 'scheduling_run', COLUMN = '{column}';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER new_run_{column}_is_there AFTER INSERT ON {schema}.scheduling_run
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({new})
EXECUTE FUNCTION {schema}.scheduling_run_{column}_is_there();

CREATE CONSTRAINT TRIGGER run_{column}_is_there AFTER UPDATE OF {column}, id
ON {schema}.scheduling_run
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (NEW.{column} IS NOT NULL AND (OLD.{column}, OLD.id) IS DISTINCT FROM (NEW.{column}, NEW.id))
EXECUTE FUNCTION {schema}.scheduling_run_{column}_is_there();
"""

# Before the commit: what was deleted is referred to by none. The lock waits for who is about to
# let it go, and has PostgreSQL ask the index, where EXISTS alone may read all runs for the first.
IS_KEPT = """
CREATE FUNCTION {schema}.scheduling_run_{column}_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM {schema}.scheduling_run WHERE {column} = OLD.id FOR KEY SHARE;
    IF FOUND AND NOT EXISTS (SELECT FROM {schema}.{table} WHERE id = OLD.id) THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('{table} %s is deleted, but runs have it as {column}', OLD.id),
            TABLE = 'scheduling_run', COLUMN = '{column}';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER run_{column}_is_kept AFTER DELETE OR UPDATE OF id ON {schema}.{table}
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
EXECUTE FUNCTION {schema}.scheduling_run_{column}_is_kept();
"""

FOREIGN_KEY = """
ALTER TABLE scheduling_run ADD CONSTRAINT scheduling_run_{column}_fk
FOREIGN KEY ({column}) REFERENCES {table} (id) DEFERRABLE INITIALLY DEFERRED;
"""


def by_triggers(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute(LOCK)
    for name in _foreign_keys(schema_editor.connection):
        schema_editor.execute(f'ALTER TABLE {RUNS} DROP CONSTRAINT "{name}"')
    schema = _schema(schema_editor.connection)
    for column, table, new in REFERENCES:
        for statements in (IS_THERE, IS_KEPT):
            sql = statements.format(schema=schema, column=column, table=table, new=new)
            schema_editor.execute(sql, params=None)


def by_foreign_keys(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute(LOCK)
    for column, table, _ in REFERENCES:
        for function in (f"scheduling_run_{column}_is_there", f"scheduling_run_{column}_is_kept"):
            schema_editor.execute(f"DROP FUNCTION {function}() CASCADE")  # and its triggers
        schema_editor.execute(FOREIGN_KEY.format(column=column, table=table))


def _schema(connection: Any) -> str:
    """Where our tables are, quoted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE oid = "
            f"(SELECT relnamespace FROM pg_class WHERE oid = '{RUNS}'::regclass)"
        )
        return str(cursor.fetchone()[0])


def _foreign_keys(connection: Any) -> list[str]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, RUNS)
    columns = {column for column, _, _ in REFERENCES}
    return [
        name
        for name, constraint in constraints.items()
        if constraint["foreign_key"] and constraint["columns"][0] in columns
    ]


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0006_one_history"),
    ]

    operations = [
        migrations.RunPython(by_triggers, by_foreign_keys),
    ]
