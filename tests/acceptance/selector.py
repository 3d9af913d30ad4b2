"""A selector of its own process: picks until the pool is empty, and tells each committed pick.

python -m tests.acceptance.selector JOB STRATEGY COUNT
"""

from __future__ import annotations

import os
import sys

import django

django.setup()

from scheduling import clock, runs  # noqa: E402
from scheduling.models import Job  # noqa: E402

if __name__ == "__main__":
    name, strategy, count = sys.argv[1:]
    job = Job.objects.get(name=name)
    empty = 0
    while empty < 3:
        picks = runs.select(job, strategy, int(count), now=clock.sample())
        # What another one holds is passed over, so one empty answer proves nothing.
        empty = 0 if picks else empty + 1
        lines = "".join(f"{os.getpid()} {pick.key} {pick.run_id}\n" for pick in picks)
        sys.stdout.write(lines)
        sys.stdout.flush()
