"""A crontab that tests write, edit and import again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand

from scheduling.models import Job
from tests.integration.cli import jobs

KEYS = ["created", "updated", "retired", "unchanged", "problems", "notes"]


class Report(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("regions", nargs="*")
        parser.add_argument("-d", "--day")
        parser.add_argument("--count", type=int, default=1)
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--tag", action="append")
        parser.add_argument("--pair", nargs=2)
        parser.add_argument("--with_underscore")


class File:
    def __init__(self, path: Path) -> None:
        self.path = path

    def bring(self, *lines: str, code: int = 0, options: tuple[str, ...] = ()) -> dict[str, Any]:
        """Write the lines, import them, and give the answer."""
        self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        told = jobs("import", "crontab", str(self.path), "--json", *options)
        assert told.code == code, told
        document: dict[str, Any] = told.document()
        assert list(document) == KEYS
        return document

    def job(self, line: str) -> Job:
        """Import a file of one line and give its job."""
        (name,) = self.bring(line)["created"]
        return Job.objects.get(name=name)

    def problem(self, line: str) -> str:
        (problem,) = self.bring(line, code=1)["problems"]
        assert problem["line"] == 1
        assert problem["text"] == line
        assert not Job.objects.exists()
        return str(problem["problem"])


def outcome(answer: dict[str, Any]) -> dict[str, list[str]]:
    return {key: answer[key] for key in KEYS[:4] if answer[key]}
