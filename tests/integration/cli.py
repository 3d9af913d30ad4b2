"""Call `manage.py jobs` in this process, as the shell would."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from scheduling.management.commands.jobs import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    code: int
    stdout: str
    stderr: str

    def document(self) -> Any:
        """Read the one document that --json promises."""
        return json.loads(self.stdout)


def jobs(*words: str) -> Told:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        # Django closes the connections at the end; the test's transaction lives in one of them.
        patch("django.db.connections.close_all"),
    ):
        try:
            Command(stdout=out, stderr=err).run_from_argv(["manage.py", "jobs", *words])
        except SystemExit as error:
            code = int(error.code or 0)
    return Told(code=code, stdout=out.getvalue(), stderr=err.getvalue())
