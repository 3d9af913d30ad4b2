"""PostgreSQL: nearly all runs may be of one job, and a question about another is answered as fast.

From its own sample it would conclude that there is only that one job, and in search of the newest
run of any other it would read all runs, newest first. Told that there are many jobs, it asks the
index for the one. The number is taken into account from the next ANALYZE on, which is made here.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

JOBS = 1000
TABLES = ("scheduling_run", "scheduling_target")


def tell(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} ALTER job_id SET (n_distinct = {JOBS})")
            schema_editor.execute(f"ANALYZE {table} (job_id)")


def forget(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} ALTER job_id RESET (n_distinct)")


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0007_references"),
    ]

    operations = [
        migrations.RunPython(tell, forget),
    ]
