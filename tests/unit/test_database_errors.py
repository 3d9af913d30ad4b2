"""What an error of the database says: somebody was first, it is away, or the statement is wrong."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from django.db import InterfaceError, OperationalError, ProgrammingError

from scheduling.db import is_conflict, is_lost


def caused(cause: Exception | None, kind: type[Exception] = OperationalError) -> Exception:
    error = kind("...")
    error.__cause__ = cause
    return error


def of_sqlite(code: int) -> Exception:
    cause = sqlite3.OperationalError("...")
    cause.sqlite_errorcode = code
    return caused(cause)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (caused(psycopg.errors.DeadlockDetected()), "conflict"),
        (caused(psycopg.errors.SerializationFailure()), "conflict"),
        (caused(psycopg.errors.LockNotAvailable()), "conflict"),
        (of_sqlite(sqlite3.SQLITE_BUSY), "conflict"),
        (of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), "conflict"),
        (caused(psycopg.errors.AdminShutdown()), "lost"),
        (caused(psycopg.errors.ConnectionFailure()), "lost"),
        (caused(psycopg.OperationalError("server closed the connection")), "lost"),
        (caused(None, InterfaceError), "lost"),
        (caused(psycopg.errors.QueryCanceled()), "wrong"),
        (caused(psycopg.errors.UndefinedFunction(), ProgrammingError), "wrong"),
        (of_sqlite(sqlite3.SQLITE_ERROR), "wrong"),
        (RuntimeError("no such plan"), "wrong"),
    ],
)
def test_an_error_of_the_database_says_what_helps(error: Exception, says: str) -> None:
    assert is_conflict(error) == (says == "conflict")
    assert is_lost(error) == (says == "lost")
