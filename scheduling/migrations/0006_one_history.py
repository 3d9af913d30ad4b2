"""One index for the fires and the history of a target, where each run was written into two."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0005_statistics"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="run",
            name="one_run_per_fire_time",
        ),
        migrations.RemoveIndex(
            model_name="run",
            name="run_history_of_target",
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                models.F("target"),
                models.OrderBy(models.F("scheduled_at"), descending=True),
                models.Case(models.When(cause__in=("schedule", "catch_up"), then=True)),
                name="one_run_per_fire_time",
            ),
        ),
    ]
