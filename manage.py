#!/usr/bin/env python
"""Django's command line for this project."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from django.core.management import execute_from_command_line

# The app whose settings the checks look at and whose beat_schedule is synced.
import config.celery  # noqa: F401
from config.problem import Problem


def main(words: Sequence[str]) -> int:
    """Run the command; what the environment says wrongly is one sentence on stderr, and 1.

    For `jobs --json`, as for any bad input of it: a document on stdout, and 2.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        execute_from_command_line(list(words))
    except Problem as problem:
        print(f"manage.py: {problem}", file=sys.stderr)
        if "jobs" not in words[1:2] or "--json" not in words:
            return 1
        print(json.dumps({"error": str(problem)}, ensure_ascii=False))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
