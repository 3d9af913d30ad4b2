"""As `settings`, with the uptime example and a cadence that a test can wait for."""

from __future__ import annotations

from datetime import timedelta

from tests.acceptance.settings import *  # noqa: F403
from tests.acceptance.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "examples.uptime.apps.UptimeConfig"]

UPTIME_WATCH_SELF = False
# After 8 seconds, as the first look always finds something new; then after one, or after a minute.
UPTIME_CADENCE = "adaptive 64s between 1s and 10m factor 8"
# What has just been listed is not waited for longer than that.
JOBS_FEED_IDLE = timedelta(seconds=1)
