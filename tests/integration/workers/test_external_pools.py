"""External runs on pools whose workers share a process: none may hold up another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.integration.workers.externals import ROOT, Runner

GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import django, gevent, os, sys, time
    django.setup()
    from pathlib import Path
    from tests.integration.workers.externals import ROOT, Runner
    from workers import warm

    if {is_warm}:
        warm._door = warm.Door(lambda: dict(os.environ), ROOT)
    Runner(ROOT).run(["/bin/true"])

    ticks = 0
    def tick():
        global ticks
        while True:
            gevent.sleep(0.01)
            ticks += 1
    gevent.spawn(tick)
    began = time.monotonic()
    runners = [Runner(ROOT) for _ in range(3)]
    script = "head -c 5000000 /dev/zero; sleep 1; exit 5"
    jobs = [gevent.spawn(runner.sh, script) for runner in runners]
    gevent.joinall(jobs)
    took = time.monotonic() - began
    print([job.value.exit_code for job in jobs], [runner.output.total for runner in runners])
    print(took < 2.5, ticks > 20, took, ticks, file=sys.stderr)
    print(took < 2.5, ticks > 20)
    warm.close_door()
"""


@pytest.mark.parametrize("is_warm", [False, True], ids=["fresh", "warm"])
def test_on_gevent_the_others_go_on(is_warm: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GEVENT).format(is_warm=is_warm)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout == "[5, 5, 5] [5000000, 5000000, 5000000]\nTrue True\n", ended.stderr


def test_on_threads_the_others_go_on(way: str, tmp_path: Path) -> None:
    runners = [Runner(tmp_path) for _ in range(4)]
    runners[0].run(["/bin/true"])
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda runner=runner: codes.append(runner.sh("sleep 1; exit 5").exit_code)
        )
        for runner in runners
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [5] * 4
    assert time.monotonic() - began < 3
