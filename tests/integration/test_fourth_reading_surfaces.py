"""What a fourth reader tripped over: pages, the command line and the edges of the JSON fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from scheduling import Named
from scheduling.feeds import OLDEST_SCHEDULED
from scheduling.models import Job
from tests.factories import NOW, make_run, make_target
from tests.integration.admin_pages import log_in, text_of
from tests.integration.cli import jobs
from tests.integration.fed_jobs import fed_job, pooled

pytestmark = pytest.mark.django_db


def page(client: Client, row: Any) -> str:
    kind = row._meta.model_name
    return text_of(client.get(reverse(f"admin:scheduling_{kind}_change", args=(row.pk,))))


# --- the admin ------------------------------------------------------------------------------------


def test_a_run_shows_its_lane_its_own_retries_and_its_metadata(admin_client: Client) -> None:
    target = make_target(fed_job("crawl"), "a")
    run = make_run(target, priority=2, retry_limit=3, metadata={"ticket": "<b>4711</b>"})
    shown = page(admin_client, run)
    assert "Lane 2" in shown
    assert "Attempt 1 of 4" in shown
    assert '{ "ticket": "<b>4711</b>" }' in shown


def test_a_picked_run_names_its_strategy(admin_client: Client) -> None:
    run = make_run(make_target(fed_job(), "a"), strategy=OLDEST_SCHEDULED)
    assert f"Picked by {OLDEST_SCHEDULED}" in page(admin_client, run)


def test_metadata_are_for_those_who_may_see_what_a_run_wrote() -> None:
    run = make_run(make_target(fed_job(), "a"), metadata={"ticket": 4711})
    assert "4711" not in page(log_in("view_run"), run)


def test_a_fed_job_does_not_call_itself_by_hand(admin_client: Client) -> None:
    job = fed_job("crawl")
    target, _ = pooled(job, 2)
    for row in (job, target):
        shown = page(admin_client, row)
        assert "icked when slots are free" in shown
        assert "nly by hand" not in shown
    assert "cursor" not in page(admin_client, job)
    assert "picked when slots are free" in jobs("show", "crawl").stdout
    listed = text_of(admin_client.get(reverse("admin:scheduling_target_changelist")))
    assert "picked when slots are free" in listed


def test_a_target_of_its_own_schedule_is_not_called_picked(admin_client: Client) -> None:
    target = make_target(fed_job(), "a", schedule="every 1h", next_fire_at=NOW)
    assert "picked when slots" not in page(admin_client, target)


@pytest.mark.parametrize("rate", ["1e-300", "0", "1e300", "-1"])
def test_a_rate_beyond_any_calendar_is_refused_in_the_form(admin_client: Client, rate: str) -> None:
    job: Job = fed_job("crawl")
    url = reverse("admin:scheduling_job_change", args=(job.pk,))
    refused = admin_client.post(url, {"polite": f'{{"per_second": {rate}}}'})
    assert "per second from 1e-05 to 10000" in text_of(refused)


# --- the command line -----------------------------------------------------------------------------


def test_what_select_prints_steers_no_terminal() -> None:
    make_target(fed_job("crawl"), "red \x1b[31m", eligible_since=NOW)
    told = jobs("select", "crawl", "--strategy", OLDEST_SCHEDULED, "--dry-run").stdout
    assert "\x1b" not in told
    assert "red \N{REPLACEMENT CHARACTER}[31m" in told


def test_an_unknown_state_of_targets_is_told_in_plain_words() -> None:
    told = jobs("targets", "--state", "nope", "--json")
    assert told.code == 2
    assert "choose from" in told.document()["error"]
    assert "Standing" not in told.document()["error"]


@pytest.mark.parametrize("option", ["--plot", "--csv", "--write-inventory"])
def test_a_simulation_is_not_begun_if_its_file_has_no_folder(option: str, tmp_path: Path) -> None:
    told = jobs("simulate", option, str(tmp_path / "nowhere" / "year.svg"), "--json")
    assert told.code == 2
    assert "make the folder" in told.document()["error"]


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a\nINFO all is well", "\x1b[2J", "a\tb", "\x7f", "\x85"])
def test_a_key_has_no_control_characters(key: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Named(key)
    Named("Straße Ω 東京 \u200d")
