"""The project's settings for real processes: the test app, mails in files, little noise.

Database, Redis and folders come from the environment, as in any installation.
"""

from __future__ import annotations

import os
from datetime import timedelta

from config.settings import *  # noqa: F403
from config.settings import BASE_DIR, INSTALLED_APPS

INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if not app.startswith("examples.")),
    "tests.testapp",
]

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ["JOBS_TEST_MAIL"]
JOBS_NOTIFY = ("operators@example.org",)
JOBS_SNAPSHOT_EVERY = timedelta(seconds=float(os.environ.get("JOBS_TEST_SNAPSHOT_EVERY", "30")))

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}

JOBS_PROGRAMS = (str(BASE_DIR / "tests" / "testapp" / "*.sh"),)
JOBS_PROGRAM_ENVIRONMENT = ("JOBS_TEST_*",)
JOBS_LOSSES_TO_POISON = int(os.environ.get("JOBS_TEST_LOSSES_TO_POISON", "3"))
JOBS_KILL_GRACE = timedelta(seconds=float(os.environ.get("JOBS_TEST_GRACE", "10")))

JOBS_SHADOW = bool(os.environ.get("JOBS_TEST_SHADOW"))
# The stock scheduler notices rows at the latest after so many seconds.
CELERY_BEAT_MAX_LOOP_INTERVAL = 1

# name -> seconds, for entries that a team would write into its settings
CELERY_BEAT_SCHEDULE = {
    name: {"task": "tests.testapp.jobs.plain", "schedule": float(seconds), "args": [name]}
    for name, _, seconds in (
        entry.partition("=") for entry in os.environ.get("JOBS_TEST_ENTRIES", "").split()
    )
}

# Tasks that are no jobs, and whose history is kept.
CELERY_IMPORTS = ("tests.testapp.foreign",)
JOBS_RECORD_FOREIGN_TASKS = ("tests.testapp.foreign.*",)
