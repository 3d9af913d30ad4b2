"""The rules of the house that a machine can check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("config", "scheduling", "workers", "examples", "tests")
LONGEST_FILE = 400


def python_files() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_a_hallway(room: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files()
        if path.is_relative_to(ROOT / room) and "migrations" not in path.parts
    }
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    # Put together here, so that this file does not name them either.
    signs = [f"/{name}/" for name in ("work", "home")] + ["/root" + "/"]
    found = [
        f"{path.relative_to(ROOT)}: {sign}"
        for path in python_files()
        for sign in signs
        if sign in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_tests_sleep_nowhere_but_in_wait_for() -> None:
    # Jobs of the test app run for a while on purpose.
    allowed = {ROOT / "tests" / "waiting.py"}
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if ("time." + "sleep") in path.read_text(encoding="utf-8")
        and path not in allowed
        and not path.is_relative_to(ROOT / "tests" / "testapp")
    ]
    assert found == []
