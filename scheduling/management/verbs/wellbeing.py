"""health: is the installation well?"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from scheduling import health
from scheduling.management.verbs.base import Answer, Say, Verb, nothing, table


def show_health(options: Namespace, say: Say) -> Answer:
    checks = health.checks(health.check_now())
    ok = all(check.ok for check in checks)
    rows = [("ok" if check.ok else "NOT OK", check.name, check.detail) for check in checks]
    return Answer(
        data={"ok": ok, "checks": [asdict(check) for check in checks]},
        text=table(("", "CHECK", "DETAIL"), rows),
        ok=ok,
    )


VERBS = (Verb("health", "exit 1 unless everything works", nothing, show_health),)
