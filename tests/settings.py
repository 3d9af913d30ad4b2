"""The project's settings, on servers of the tests' own.

`JOBS_TEST_DB` says on which database tests run: `sqlite` (the default) or `postgres`.
"""

from __future__ import annotations

import os

from tests import services

os.environ["JOBS_VAR"] = str(services.FOLDER)

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, POSTGRES_OPTIONS, SQLITE_OPTIONS, STATIC_ROOT, env

INSTALLED_APPS = [*INSTALLED_APPS, "tests.testapp"]

if os.environ.get("JOBS_TEST_DB", "sqlite") == "postgres":
    DATABASES = {"default": env.db_url_config(services.postgres.url("beatkeeper"))}
    DATABASES["default"]["OPTIONS"] = POSTGRES_OPTIONS
else:
    # In a file: a database in memory has neither WAL nor a second connection to race with.
    NAME = str(services.FOLDER / "tests.sqlite3")
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": NAME,
            "OPTIONS": SQLITE_OPTIONS,
            "TEST": {"NAME": NAME},
        }
    }

REDIS_URL = services.valkey.url
CELERY_BROKER_URL = services.valkey.broker_url

UPTIME_WATCH_SELF = False
UPTIME_ENDPOINTS = ""
JOBS_SNAPSHOT = ""  # each test's database is another installation's

EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns of a missing one
