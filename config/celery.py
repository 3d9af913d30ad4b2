"""The Celery app: `celery -A config beat`, `celery -A config worker`, `celery -A config flower`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_prerun
from django.db import close_old_connections

from config import env_check
from config.problem import Problem

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Flower as shipped is open to everybody who reaches its port. This file puts it behind the admin's
# log-in; named here, it is read however Flower is started for this app.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="jobs")
task_prerun.connect(close_old_connections)


@app.on_configure.connect
def refuse_bad_environment(**facts: Any) -> None:
    """End `celery -A config` with a sentence.

    Nobody else: all other processes read Django's settings first, and these raise.
    """
    try:
        env_check.check()
    except Problem as problem:
        sys.exit(f"celery: {problem}")
