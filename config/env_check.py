"""Refuse what the environment says wrongly, in a sentence. Standard library only.

The one place for it: `python3 -m config` asks before it installs anything, the settings before they
read a value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Set
from urllib.parse import urlsplit

from config import env
from config.problem import Problem

DATABASES = frozenset({"sqlite", "postgres", "postgresql", "psql", "pgsql"})
REDIS = frozenset({"redis", "rediss", "unix"})
MAILERS = frozenset(
    {"smtp", "smtps", "smtp+tls", "smtp+ssl"}
    | {"consolemail", "filemail", "memorymail", "dummymail"}
)
# These have a path, and perhaps no host.
LOCAL = frozenset({"sqlite", "unix", "redis+socket"})

SWITCHES = ("DJANGO_DEBUG", "DJANGO_HTTPS", "UPTIME_WATCH_SELF")
SWITCH_WORDS = frozenset(
    {"", "true", "on", "ok", "y", "yes", "1"} | {"false", "off", "n", "no", "0"}
)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# A password may hold any character but is over at the last @.
URL = re.compile(r"(?P<scheme>[a-z][\w.:+-]*)://(?:.*@)?(?P<hosts>[^/?#]*)", re.I | re.S)


def check() -> None:
    """Raise Problem for the first variable whose value cannot be meant."""
    env.var_dir()
    check_url(
        "DATABASE_URL",
        schemes=DATABASES,
        advice="write it as postgres://user:password@host:5432/name or sqlite:////path/of/a/file, "
        "or unset it for SQLite in var/",
    )
    check_url(
        "REDIS_URL",
        schemes=REDIS,
        advice="write it as redis://:password@host:6379/0, rediss://... or unix:///path?db=0, "
        "or unset it for the embedded Valkey",
    )
    check_url(
        "CELERY_BROKER_URL",
        schemes=None,
        advice="write it as redis://:password@host:6379/0, or unset it to use REDIS_URL",
    )
    check_url(
        "EMAIL_URL",
        schemes=MAILERS,
        advice="write it as smtp+tls://user:password@host:587, "
        "or unset it to have mails written to the log",
    )
    env.channels()
    for name in ("WEB_PORT", "FLOWER_PORT"):
        check_port(name)
    if env.web_port() == env.flower_port():
        raise Problem(
            f"WEB_PORT and FLOWER_PORT are both {env.web_port()}; "
            "choose another port for one of them."
        )
    if env.log_level() not in LEVELS:
        raise Problem(
            f"DJANGO_LOG_LEVEL is {os.environ['DJANGO_LOG_LEVEL']!r}, which is no level; "
            f"set it to one of {', '.join(LEVELS)}."
        )
    for name in SWITCHES:
        if os.environ.get(name, "").lower() not in SWITCH_WORDS:
            raise Problem(
                f"{name} is {os.environ[name]!r}, which is neither on nor off; set it to on or off."
            )


def check_url(name: str, *, schemes: Set[str] | None, advice: str) -> None:
    """Raise Problem unless `name` is unset or a URL; its scheme is one of `schemes`, None: any."""
    value = os.environ.get(name)
    if not value:
        return
    parts = URL.match(value)
    if parts is None:
        shown = re.sub(".*@", "***@", value, flags=re.S)
        raise Problem(f"{name} is {shown!r}, which is not a URL; {advice}.")
    # No more is shown: in a URL that is wrong, the password may be anywhere.
    scheme, shown = parts["scheme"], f"'{parts['scheme']}://...'"
    if schemes is not None and scheme not in schemes:
        raise Problem(f"{name} is {shown}, and {scheme}:// is not supported; {advice}.")
    # Several hosts are separated by commas for PostgreSQL, by semicolons for Celery.
    if scheme not in LOCAL and not all(map(has_fair_port, re.split("[,;]", parts["hosts"]))):
        raise Problem(
            f"{name} is {shown}, with a port that is not a number from 1 to 65535; {advice}."
        )


def has_fair_port(host: str) -> bool:
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return port is None or port >= 1


def check_port(name: str) -> None:
    value = os.environ.get(name)
    if value and not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise Problem(f"{name} is {value!r}, which is not a port; set it to one from 1 to 65535.")
