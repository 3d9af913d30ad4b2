"""Several who do something at once, with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

needs_row_locks = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock")


def side_by_side(*acts: Callable[[], object]) -> None:
    """Let all begin at one moment, each with a connection of its own; none may raise or hang."""
    together = threading.Barrier(len(acts))
    errors: list[BaseException] = []

    def body(act: Callable[[], object]) -> None:
        try:
            together.wait(20)
            act()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


def in_thread(act: Callable[[], object], errors: list[Exception]) -> threading.Thread:
    """Begin it; what it raises is in `errors` when it has ended."""

    def body() -> None:
        try:
            act()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=body)
    thread.start()
    return thread
