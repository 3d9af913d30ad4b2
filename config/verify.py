"""`python -m config test`: every check and every test, or only the tests asked for."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from config.problem import Problem

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Each of the two has a database server and a broker of its own.
IN_PARALLEL = ("--numprocesses", "2", "--dist", "worksteal")

# Nothing of it is secret: it is what `check --deploy` is asked about.
PRODUCTION = {
    "DJANGO_ALLOWED_HOSTS": "jobs.example.com",
    "DJANGO_SECRET_KEY": secrets.token_urlsafe(64),
}


def verify(pytest_arguments: Sequence[str]) -> int:
    """Run all steps and return 0 if all passed; with arguments only pytest, with these."""
    with tempfile.TemporaryDirectory(prefix="beatkeeper-test-") as folder:
        environ = test_environ(Path(folder))
        if pytest_arguments:
            steps = {"pytest": ([*python("pytest"), *pytest_arguments], environ)}
        else:
            steps = all_steps(environ)
        failed = [name for name, (command, env) in steps.items() if not passes(name, command, env)]
    if failed:
        print(f"\nFailed: {', '.join(failed)}.", file=sys.stderr)
        return 1
    print(f"\nAll passed: {', '.join(steps)}.")
    return 0


def all_steps(environ: dict[str, str]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return name -> (command, environment), in order."""
    manage = [sys.executable, "manage.py"]
    return {
        "lint": ([*python("ruff"), "check", "."], environ),
        "format": ([*python("ruff"), "format", "--check", "."], environ),
        "types": (python("mypy"), environ),
        "migrations": ([*manage, "makemigrations", "--check", "--dry-run"], environ),
        "deployment": (
            [*manage, "check", "--deploy", "--fail-level", "WARNING"],
            environ | PRODUCTION,
        ),
        "tests": ([*python("pytest"), *IN_PARALLEL, "tests/unit", "tests/integration"], environ),
        "tests on PostgreSQL": (
            [*python("pytest"), *IN_PARALLEL, "tests/integration"],
            environ | {"JOBS_TEST_DB": "postgres"},
        ),
        # These start processes of their own, and mostly wait for them.
        "tests of processes": (
            [*python("pytest"), *IN_PARALLEL, "tests/acceptance", "tests/browser"],
            environ,
        ),
    }


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def passes(name: str, command: Sequence[str], environ: dict[str, str]) -> bool:
    print(f"\n== {name}: {' '.join(['python', *command[1:]])}", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, env=environ, check=False)
    verdict = "passed" if done.returncode == 0 else f"FAILED (exit code {done.returncode})"
    print(f"== {name} {verdict} in {time.monotonic() - started:.1f} s", flush=True)
    return done.returncode == 0


def test_environ(folder: Path) -> dict[str, str]:
    """Return the environment of the tests: state in `folder`, and where the browser is."""
    environ = os.environ | {
        "JOBS_VAR": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    browser = find_browser() or install_browser()
    if browser is None and os.environ.get("JOBS_TEST_REQUIRE_BROWSER"):
        raise Problem(
            "JOBS_TEST_REQUIRE_BROWSER is set, but no browser is on PATH nor could be installed: "
            f"tried {', '.join(BROWSERS)}. Name one in CHROMIUM."
        )
    if browser is not None:
        environ["CHROMIUM"] = browser
    return environ


def find_browser() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


def install_browser() -> str | None:
    """Install Debian's Chromium where that is allowed; the tests skip by name where it is not."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    print("Installing Debian's Chromium for the browser tests ...", flush=True)
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            ["apt-get", "--quiet", *words],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            print(f"apt-get {words[0]} failed; the browser tests are skipped.", flush=True)
            return None
    return find_browser()
