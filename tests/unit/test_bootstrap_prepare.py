"""`python -m config.prepare`: what its one document must not be mixed with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from config import env

PROBLEM_ROW = """
from config.settings import *

CELERY_BEAT_SCHEDULE = {"broken": {"task": "no.such.task", "schedule": "whenever"}}
"""


def test_a_problem_of_the_sync_is_seen_and_leaves_the_document_alone(tmp_path: Path) -> None:
    (tmp_path / "team_settings.py").write_text(PROBLEM_ROW, encoding="utf-8")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "JOBS_ADMIN_PASSWORD")
    } | {
        "DJANGO_SETTINGS_MODULE": "team_settings",
        "JOBS_VAR": str(tmp_path / "var"),
        "PYTHONPATH": str(tmp_path),
    }

    def prepare() -> tuple[object, str]:
        done = subprocess.run(
            [sys.executable, "-m", "config.prepare"],
            cwd=env.BASE_DIR,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    first, said = prepare()
    assert isinstance(first, dict)
    assert first["name"] == "admin"
    assert "Problem: " in said
    second, said = prepare()
    assert second is None
    assert "Problem: " in said
