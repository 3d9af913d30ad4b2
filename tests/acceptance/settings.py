"""The project's settings for real processes: the test app, mails in files, little noise.

Database, Redis and folders come from the environment, as in any installation.
"""

from __future__ import annotations

import os

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if not app.startswith("examples.")),
    "tests.testapp",
]

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ["JOBS_TEST_MAIL"]
JOBS_NOTIFY = ("operators@example.org",)

# name -> seconds, for entries that a team would write into its settings
CELERY_BEAT_SCHEDULE = {
    name: {"task": "tests.testapp.jobs.plain", "schedule": float(seconds), "args": [name]}
    for name, _, seconds in (
        entry.partition("=") for entry in os.environ.get("JOBS_TEST_ENTRIES", "").split()
    )
}
