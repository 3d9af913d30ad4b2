"""End what a killed supervisor leaves behind: `python -m config.undertaker`, fed through its input.

Each line is `+GROUP` or `-GROUP`: a process group to look after, or one that has ended. The end of
the input means that the supervisor is gone: after a grace every group still named is killed. A
supervisor that stops in order has taken all names back by then.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress

from config.process import kill_group

GRACE = 5.0


class Undertaker:
    """The supervisor's side: tell the undertaker about groups."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "config.undertaker"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def look_after(self, group: int) -> None:
        self.tell(f"+{group}")

    def forget(self, group: int) -> None:
        self.tell(f"-{group}")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        # Somebody may have killed the undertaker; the services are none the worse.
        with suppress(BrokenPipeError):
            print(line, file=self.process.stdin, flush=True)

    def dismiss(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    if groups:
        time.sleep(GRACE)
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    main()
