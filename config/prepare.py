"""Bring database, static files and the first admin user into being: `python -m config.prepare`.

A process of its own, so that the supervisor stays free of Django. Prints one JSON document on
stdout: the user that was made, or null.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import redirect_stdout

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        # The team's apps, and the sync of their declarations, may print.
        with redirect_stdout(sys.stderr):
            user = prepare()
    except DatabaseError as error:
        database = settings.DATABASES["default"]
        place = database["HOST"] or database["NAME"]
        print(f"The database {place} cannot be used: {error}", file=sys.stderr)
        return 1
    print(json.dumps(user))
    return 0


def prepare() -> dict[str, str] | None:
    """Prepare everything; return the user that was made, or None."""
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    user = make_admin()
    call_command("collectstatic", interactive=False, verbosity=0)
    return user


def make_admin() -> dict[str, str] | None:
    """Make the first superuser and return name and password; None if there is one already."""
    from django.contrib.auth.models import User

    if User.objects.filter(is_superuser=True).exists():
        return None
    name = os.environ.get("JOBS_ADMIN_USER") or "admin"
    password = os.environ.get("JOBS_ADMIN_PASSWORD") or secrets.token_urlsafe(12)
    User.objects.create_superuser(username=name, password=password)
    known = bool(os.environ.get("JOBS_ADMIN_PASSWORD"))
    return {"name": name, "password": "as in JOBS_ADMIN_PASSWORD" if known else password}


if __name__ == "__main__":
    sys.exit(main())
