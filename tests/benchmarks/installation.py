"""What benchmarks in a process of their own stand on: a database, and the machine they name."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from tests.services import Postgres


@contextmanager
def installation(
    *, database: str = "postgres", buffers: str = "", with_valkey: bool = False
) -> Iterator[Path]:
    """Set Django up, which nobody has done yet, on a new database with our tables; give a folder.

    `database` is "postgres", one that flushes each commit to the disk and has `buffers` of memory
    (its own default if empty, else such as "1GB"), or "sqlite".
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["JOBS_TEST_DB"] = database
    from tests import services

    folder = services.FOLDER / "benchmark"
    folder.mkdir(mode=0o755)
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, folder)
        if with_valkey:
            services.valkey.start()
            ends.callback(services.valkey.kill)
        if database == "postgres":
            if user := services.user_of_servers():
                shutil.chown(folder, user)
            services.postgres = services.Postgres(folder, is_durable=True)
            ends.enter_context(running(services.postgres, buffers))
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield folder


@contextmanager
def running(server: Postgres, buffers: str) -> Iterator[None]:
    server.start()
    try:
        if buffers:
            server.execute(f"ALTER SYSTEM SET shared_buffers = '{buffers}'")
            server.stop()
            server.start()
        server.create("beatkeeper")
        yield
    finally:
        server.stop()


def machine() -> str:
    """Name what a figure was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} x {platform.machine()}, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, Django {django.__version__}"
    )
