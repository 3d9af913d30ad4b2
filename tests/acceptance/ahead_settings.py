"""The settings of the acceptance tests, on a machine whose clock is a minute and a half ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import time_machine

from tests.acceptance.settings import *  # noqa: F403

# The wall clock only: as on such a machine, the seconds that have gone by are right.
time_machine.travel(datetime.now(UTC) + timedelta(seconds=90), tick=True).start()
