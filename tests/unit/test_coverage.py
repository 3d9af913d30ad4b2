"""The pure core is tested through and through: each of its branches is taken by a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = [
    *("calendars", "cron", "cron_fields", "cron_words", "errors", "policies", "schedule_base"),
    *("schedule_kinds", "schedule_text", "schedule_unanchored", "schedules", "spans", "zones"),
    *("cadence", "feeds", "measures", "outcome", "selection"),
]
# Those that name what they expect; walks, oracles and random schedules come on top of them.
TESTS = [
    *("test_cadence", "test_calendars", "test_clock_changes", "test_cron", "test_feeds"),
    *("test_measures", "test_outcome", "test_policies", "test_schedule_text", "test_schedules"),
    "test_selection",
]


def coverage(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Neither the settings of the project nor the worker of pytest-xdist that we are is of interest.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "coverage", words[0], f"--rcfile={os.devnull}", *words[1:]],
        cwd=ROOT,
        env={**environ, "COVERAGE_FILE": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)
def test_every_branch_of_the_pure_core_is_taken(tmp_path: Path) -> None:
    data, files = tmp_path / "coverage", ",".join(f"scheduling/{name}.py" for name in CORE)
    run = coverage(
        *(data, "run", "--branch", f"--include={files}", "-m", "pytest", "-q"),
        *("-p", "no:cacheprovider", *(f"tests/unit/{name}.py" for name in TESTS)),
    )
    # Whether they pass is told elsewhere: those that measure time may not, while they are traced.
    assert run.returncode in (0, 1), run.stdout + run.stderr
    report = coverage(data, "report", "--fail-under=100", "--show-missing")
    assert report.returncode == 0, report.stdout
    assert all(f"scheduling/{name}.py" in report.stdout for name in CORE)
