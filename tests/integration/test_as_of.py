"""A command that is told its scheduled time by the option that it names."""

from __future__ import annotations

from datetime import timedelta
from textwrap import dedent

import pytest

from scheduling import clock, runs
from scheduling.models import State
from tests.factories import NOW
from tests.integration.command_app import Deploy, execute, job, target

pytestmark = pytest.mark.django_db(transaction=True)

SOURCE = """
from datetime import datetime
from django.core.management import BaseCommand

class Command(BaseCommand):
    help = "Take stock"

    class ScheduledJob:
        schedule = "every 1h"
        scheduled_at = "as_of"
        internal = {internal}

    def add_arguments(self, parser):
        parser.add_argument("--as-of", required=True)

    def handle(self, *, as_of, **options):
        self.stdout.write(as_of)
"""


@pytest.mark.parametrize("internal", [False, True], ids=["external", "internal"])
def test_a_run_passes_its_fire_time_as_an_option(deploy: Deploy, internal: bool) -> None:
    # The fire of this hour has been missed, and is caught up.
    deploy(stock=dedent(SOURCE.format(internal=internal)), now=clock.now() - timedelta(hours=1))
    fire = target("stock").next_fire_at
    assert fire is not None
    (run,) = runs.claim(now=clock.now(), limit=10).runs
    ended = execute(run)
    assert (ended.state, ended.output) == (State.SUCCEEDED, f"{fire.isoformat()}\n")


def test_a_run_by_hand_can_be_told_another_time(deploy: Deploy) -> None:
    deploy(stock=dedent(SOURCE.format(internal=True)))
    past = NOW - timedelta(days=30)
    run = runs.trigger(job("stock"), by="ann", as_of=past, now=NOW)
    assert execute(run).output == "2025-12-06T12:00:00+00:00\n"
