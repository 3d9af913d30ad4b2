"""The acceptance tests' settings with the app of the benchmarks, which is in no test."""

from __future__ import annotations

from tests.acceptance.settings import *  # noqa: F403
from tests.acceptance.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.benchmarks.hourly"]
