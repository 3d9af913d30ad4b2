"""What one run of a management command leaves: its limits, its output, its mails.

Numbered as in `test_command_runner_cases`. External commands run as processes.
"""

from __future__ import annotations

import sys
import tracemalloc
from datetime import timedelta

import pytest
from django.core import mail
from django.test import override_settings

from scheduling.limits import limits_of
from scheduling.models import Reason, State
from tests.integration.cli import jobs
from tests.integration.command_app import Deploy, command, job, run_now

pytestmark = pytest.mark.django_db(transaction=True)


def test_a16_an_external_command_is_ended_at_its_limit_and_its_output_kept(deploy: Deploy) -> None:
    body = """
        self.stdout.write("begun")
        clock.sleep(60)
    """
    deploy(work=command("timeout = 3 / 60", body))
    run = run_now()
    assert run.state == State.FAILED
    assert run.reason in (Reason.SOFT_LIMIT, Reason.HARD_LIMIT)
    assert "3 s" in run.error
    assert run.output == "begun\n"
    assert run.started_at is not None
    assert run.ended_at is not None
    assert timedelta(seconds=1.5) < run.ended_at - run.started_at < timedelta(seconds=10)


def test_a17_an_external_commands_exit_code_and_output_are_kept(deploy: Deploy) -> None:
    deploy(work=command(body="self.stdout.write('x')\nraise SystemExit(2)"))
    run = run_now()
    assert (run.state, run.reason, run.exit_code) == (State.FAILED, Reason.EXIT_CODE, 2)
    assert run.output == "x\n"


def test_a18_an_external_command_has_120_seconds(deploy: Deploy) -> None:
    deploy(work=command())
    assert job().is_external
    assert limits_of(job()).hard == timedelta(seconds=120)


def test_a19_an_internal_command_that_raises_fails_alone(deploy: Deploy) -> None:
    deploy(work=command("internal = True", "raise CommandError('boom')"))
    run = run_now()
    assert run.state == State.FAILED
    assert "boom" in run.output
    deploy(work=command("internal = True", "raise SystemExit(3)"))
    assert run_now().exit_code == 3


@pytest.mark.parametrize("internal", [True, False])
def test_a20_options_have_their_defaults(deploy: Deploy, internal: bool) -> None:
    deploy(work=command(f"internal = {internal}", "self.stdout.write(str(options['size']))"))
    assert run_now().output == "7\n"


@pytest.mark.parametrize(
    ("notify", "body", "mails"),
    [
        (True, "pass", 0),
        (True, "self.stdout.write('sold 3')", 1),
        (False, "self.stdout.write('sold 3')", 0),
        (False, "raise ValueError('no stock')", 1),
    ],
    ids=["silent success", "success with output", "success unasked", "failure"],
)
def test_a21_who_is_told_what(deploy: Deploy, notify: bool, body: str, mails: int) -> None:
    attributes = f"internal = True\ndefault_notify_on_success = {notify}"
    with override_settings(JOBS_NOTIFY=["shop@example.org"]):
        deploy(work=command(attributes, body))
        run_now()
    assert len(mail.outbox) == mails


def test_a34_output_that_cannot_be_stored_as_it_is_harms_nothing(deploy: Deploy) -> None:
    body = "self.stdout.write('a' + chr(0) + 'b')\nself.stdout.write('x' * 3_000_000)"
    deploy(work=command("timeout = 1", body))
    run = run_now()
    assert run.state == State.SUCCEEDED
    assert "\0" not in run.output
    assert len(run.output) < 1_100_000
    assert run.output_bytes > 3_000_000
    assert job().paused_at is None


def test_a34_a_hundred_megabytes_of_output_cost_at_most_32_of_memory(deploy: Deploy) -> None:
    deploy(
        work=command("timeout = 2", "for _ in range(100):\n    self.stdout.write('x' * 1_000_000)")
    )
    tracemalloc.start()
    try:
        run = run_now()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (run.state, run.output_bytes) == (State.SUCCEEDED, 100 * 1_000_001)
    assert peak <= 32 * 1024 * 1024


def test_what_a_teams_code_prints_when_it_is_imported_stays_out_of_the_document(
    deploy: Deploy,
) -> None:
    deploy(work=command(above="print('hello from shop')"))
    for name in list(sys.modules):
        if name.startswith("shop.management.commands."):
            del sys.modules[name]
    answer = jobs("sync", "--json")
    assert "work" in answer.document()["unchanged"]
    assert "hello from shop" in answer.stderr
