from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("uptime", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="is_listed",
            field=models.BooleanField(default=False, editable=False, verbose_name="from the file"),
        ),
    ]
