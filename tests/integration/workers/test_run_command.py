from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import BaseCommand, CommandError

from scheduling.errors import InvalidDeclaration
from scheduling.models import Reason, Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers.conftest import Deliver
from workers import commands

pytestmark = pytest.mark.django_db(transaction=True)

RUN_COMMAND = "workers.commands.run_command"


class Speaking(BaseCommand):
    """Does what its `act` option says."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("names", nargs="*")
        parser.add_argument("--act", default="speak")
        parser.add_argument("--greeting", default="hello")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{options['greeting']} {options['names']}")
        if options["act"] == "raise":
            raise ValueError("boom")
        if options["act"] == "refuse":
            raise CommandError("not today", returncode=3)
        if options["act"] == "exit":
            raise SystemExit(5)
        if options["act"] == "flood":
            self.stdout.write("x\0" * 2_000_000)


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django.core.management.get_commands",
        lambda: {"speaking": Speaking(), "scribble": "tests.testapp"},
    )


def internal(**fields: Any) -> Run:
    return make_run(make_target(make_job(kind="command", command="speaking", **fields)))


def external(command: str, **fields: Any) -> Run:
    return make_run(
        make_target(make_job(kind="command", command=command, internal=False, **fields))
    )


@pytest.mark.usefixtures("speaking")
def test_an_internal_command_gets_its_option_defaults_and_its_output_is_kept(
    deliver: Deliver,
) -> None:
    after = deliver(internal(args=["a", "b"]), name=RUN_COMMAND)
    assert (after.state, after.output) == (State.SUCCEEDED, "hello ['a', 'b']\n")
    assert after.output_bytes == len(after.output)


@pytest.mark.usefixtures("speaking")
@pytest.mark.parametrize(
    ("act", "reason", "exit_code", "in_output"),
    [
        ("raise", Reason.ERROR, None, "ValueError: boom"),
        ("refuse", Reason.ERROR, 3, "CommandError: not today"),
        ("exit", Reason.EXIT_CODE, 5, "hello"),
    ],
)
def test_an_internal_command_that_fails_keeps_what_it_wrote(
    deliver: Deliver, act: str, reason: str, exit_code: int | None, in_output: str
) -> None:
    after = deliver(internal(kwargs={"act": act}), name=RUN_COMMAND)
    assert (after.state, after.reason, after.exit_code) == (State.FAILED, reason, exit_code)
    assert after.output.startswith("hello []\n")
    assert in_output in after.output


@pytest.mark.usefixtures("speaking")
def test_a_flood_with_nul_characters_is_stored_cut(deliver: Deliver) -> None:
    after = deliver(internal(kwargs={"act": "flood"}), name=RUN_COMMAND)
    assert after.state == State.SUCCEEDED
    assert after.output_bytes == 4_000_000 + len("hello []\n") + 1
    assert "bytes left out" in after.output
    assert "\0" not in after.output


def test_an_unknown_command_fails_with_its_name(deliver: Deliver) -> None:
    run = make_run(make_target(make_job(kind="command", command="nonesuch")))
    after = deliver(run, name=RUN_COMMAND)
    assert after.state == State.FAILED
    assert "nonesuch" in after.error


def test_the_command_task_sent_by_hand_says_what_to_do() -> None:
    with pytest.raises(InvalidDeclaration, match="jobs trigger"):
        commands.run_command("anything")


def test_an_external_command_runs_with_its_run_in_the_environment(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "manage"
    monkeypatch.setattr(commands, "manage", lambda: ["/usr/bin/env", "sh", str(script)])
    script.write_text('echo "$@"; echo "$JOB/$ATTEMPT/$RUN_ID"; exit ${EXIT_WITH:-0}')
    run = external("report", kwargs={"day": "mon"}, args=["-x"])
    after = deliver(run, name=RUN_COMMAND)
    assert (after.state, after.exit_code) == (State.SUCCEEDED, 0)
    assert after.output == f"report --day=mon -- -x\n{run.name}/1/{run.pk}\n"


def test_an_external_command_that_fails_keeps_code_and_output(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "manage"
    monkeypatch.setattr(commands, "manage", lambda: ["/usr/bin/env", "sh", str(script)])
    script.write_text("echo x; exit 2")
    after = deliver(external("report"), name=RUN_COMMAND)
    assert (after.state, after.reason, after.exit_code) == (State.FAILED, Reason.EXIT_CODE, 2)
    assert after.output == "x\n"
    assert "exit code 2" in after.error


def test_an_external_command_is_ended_at_its_limit(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "manage"
    monkeypatch.setattr(commands, "manage", lambda: ["/usr/bin/env", "sh", str(script)])
    script.write_text("echo begun; sleep 60")
    after = deliver(external("report", hard_limit=timedelta(seconds=1)), name=RUN_COMMAND)
    assert (after.state, after.reason) == (State.FAILED, Reason.HARD_LIMIT)
    assert after.output == "begun\n"
    assert "1 s" in after.error
