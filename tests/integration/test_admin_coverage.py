"""The pages of coverage, and what the pages of targets and resources say of what was found."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from scheduling import clock, runs
from scheduling.measures import Facts
from scheduling.models import Cause, CoverageCount, Job, Listing, Resource, Source, Target
from scheduling.runs import coverage as counting
from scheduling.views.coverage_figures import MOST_PAIRS
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.admin_pages import log_in, page, text_of

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NASTY = "<script>alert(1)</script>"


def covered(name: str = "load", source: str = "forge") -> Job:
    """A job with four targets of a source: one fresh, one stale, one new and one paused."""
    job = make_job(name)
    origin, _ = Source.objects.get_or_create(name=source)
    found = {"found_at": NOW + DAY, "source": origin}
    rows: dict[str, dict[str, Any]] = {
        "fresh": found,
        "stale": {**found, "staleness": 3 * DAY, "hint_at": NOW + 4 * DAY},
        "new": {"source": origin},
        "paused": {"source": origin, "paused_at": NOW},
    }
    for key, columns in rows.items():
        target = make_target(job, key, **columns)
        before = None if key == "new" else Facts(created_at=NOW)
        counting.note(job.pk, origin.pk, None, before)
        counting.note(job.pk, origin.pk, before, counting.facts_of(target))
    return job


def test_the_page_shows_each_job_with_its_shares() -> None:
    job = covered()
    response = log_in("view_coveragecount", "view_target").get(
        page("scheduling_coveragecount_changelist")
    )
    shown = text_of(response)
    assert "Known 4 Never checked 1 Stale 1 Missed the last time 0 Paused 1" in shown
    assert page("scheduling_coveragecount_job", job.pk) in response.content.decode()
    bar = response.context["rows"][0].bar
    assert [(part.name, part.targets, part.x, part.width) for part in bar] == [
        ("checked, not stale", 1, "0.00%", "25.00%"),
        ("stale", 1, "25.00%", "25.00%"),
        ("never checked", 1, "50.00%", "25.00%"),
        ("paused", 1, "75.00%", "25.00%"),
    ]


def test_its_figures_lead_to_the_targets_behind_them() -> None:
    job = covered()
    client = log_in("view_coveragecount", "view_target")
    response = client.get(page("scheduling_coveragecount_changelist"))
    make_target(job)  # the job itself is counted nowhere
    runs.pause(job, by="eve", reason="", now=clock.now())  # which pauses none of them themselves
    figures = dict(response.context["rows"][0].figures)
    listed = {
        name: [target.key for target in client.get(address).context["cl"].result_list]
        for name, address in ((name, href_in(str(figure))) for name, figure in figures.items())
        if address
    }
    assert listed == {
        "Known": ["fresh", "new", "paused", "stale"],
        "Never checked": ["new"],
        "Stale": ["stale"],
        "Paused": ["paused"],
    }
    assert all(f">{len(keys)}</a>" in figures[name] for name, keys in listed.items())


def href_in(text: str) -> str:
    found = re.search(r'href="([^"]*)"', text)
    return html.unescape(found[1]) if found else ""


def test_the_page_of_a_job_has_its_lag_first_successes_and_sources() -> None:
    job = covered()
    response = log_in("view_coveragecount").get(page("scheduling_coveragecount_job", job.pk))
    lag = {bar.name: (bar.targets, bar.width) for bar in response.context["lag"]}
    assert lag["up to 1 week"] == (1, "100.00%")
    assert lag["longer"] == (0, "0.00%")
    assert {bar.name: bar.targets for bar in response.context["first_success"]}["up to 1 hour"] == 2
    (source,) = response.context["sources"]
    assert source.name == "forge"
    assert "?standing=" not in response.content.decode()


def test_the_page_of_a_job_without_counted_targets_says_so() -> None:
    response = log_in("view_coveragecount").get(page("scheduling_coveragecount_job", make_job().pk))
    assert "there is nothing to cover" in text_of(response)


def test_names_are_shown_as_they_are_written() -> None:
    job = covered(NASTY, source=NASTY)
    client = log_in("view_coveragecount", "view_job")
    for address in (
        page("scheduling_coveragecount_changelist"),
        page("scheduling_coveragecount_job", job.pk),
    ):
        response = client.get(address)
        assert NASTY not in response.content.decode()
        assert NASTY in text_of(response)


def test_who_may_not_look_is_refused_and_sees_no_way_there() -> None:
    job = covered()
    client = log_in("view_job", "view_target")
    address = page("scheduling_coveragecount_changelist")
    assert client.get(address).status_code == 403
    assert client.get(page("scheduling_coveragecount_job", job.pk)).status_code == 403
    assert address not in client.get(page("index")).content.decode()


def test_home_and_the_sidebar_lead_to_it() -> None:
    covered()
    response = log_in("view_coveragecount").get(page("index"))
    assert "4 targets known, 1 never checked, 1 stale" in text_of(response)
    assert response.content.decode().count(page("scheduling_coveragecount_changelist")) == 2


def test_a_paused_job_is_said_to_be_paused() -> None:
    runs.pause(covered(), by="eve", reason="", now=clock.now())
    shown = text_of(log_in("view_coveragecount").get(page("scheduling_coveragecount_changelist")))
    assert "load the job is paused" in shown


# --- targets and resources ------------------------------------------------------------------------


def test_the_page_of_a_target_tells_what_was_found() -> None:
    target = make_target(
        make_job("load"),
        "thing",
        source=Source.objects.create(name="forge"),
        last_outcome="unchanged",
        fingerprint=NASTY,
        observed_at=NOW,
        found_at=NOW,
        ok_since=NOW,
        hint_at=NOW,
        staleness=3 * DAY,
        streak=7,
        misses=2,
        level=5,
        position=99,
        interval=2 * DAY,
        eligible_at=NOW + DAY,
    )
    make_run(target, cause=Cause.SCHEDULE, strategy="stalest")
    response = log_in("view_target").get(page("scheduling_target_change", target.pk))
    shown = text_of(response)
    for words in (
        "Outcome unchanged",
        "Equal results in a row 7",
        "Not found, in a row 2",
        f"Fingerprint {NASTY}",
        "Stale by 3 d",
        "Interval 2 d",
        "Level 5",
        "Virtual position 99",
        "Named first by forge",
        "May be picked cools",
        "Picked last by stalest",
    ):
        assert words in shown
    assert NASTY not in response.content.decode()


def test_the_arguments_of_a_target_are_for_those_who_may_change_them_or_see_those_of_runs() -> None:
    target = make_target(make_job("load"), "thing", kwargs={"password": "sesame"})
    address = page("scheduling_target_change", target.pk)
    assert "sesame" not in log_in("view_target").get(address).content.decode()
    for name, permission in (("bob", "change_target"), ("eve", "view_run_output")):
        shown = log_in("view_target", permission, name=name).get(address)
        assert "sesame" in shown.content.decode()


def test_the_page_of_a_plain_target_says_nothing_of_findings() -> None:
    target = make_target(make_job("plain"))
    shown = text_of(log_in("view_target").get(page("scheduling_target_change", target.pk)))
    assert "What was found" not in shown


@pytest.mark.parametrize(
    ("standing", "keys"),
    [
        ("", ["cooling", "failing", "new", "paused", "stale"]),
        ("failing", ["failing"]),
        ("never_found", ["failing", "new"]),
        ("stale", ["stale"]),
        ("cooling", ["cooling"]),
        ("in_pool", ["new"]),
        ("paused", ["paused"]),
        ("held", ["cooling", "paused"]),
        ("retired", ["retired"]),
        ("nonsense", ["cooling", "failing", "new", "paused", "stale"]),
    ],
)
def test_targets_are_listed_by_how_they_stand(standing: str, keys: list[str]) -> None:
    job = make_job("load")
    rows: dict[str, dict[str, Any]] = {
        "cooling": {"found_at": NOW, "eligible_at": NOW + DAY},
        "failing": {"failing_since": NOW, "misses": 1},
        "new": {"eligible_since": NOW},
        "paused": {"paused_at": NOW},
        "retired": {"retired_at": NOW},
        "stale": {"found_at": NOW, "staleness": DAY},
    }
    for key, columns in rows.items():
        make_target(job, key, **columns)
    held = make_target(make_job("other"), "held", resource="thing").resource
    Resource.objects.filter(key="thing").update(paused_at=NOW)
    Target.objects.filter(key="cooling").update(resource=held)
    address = page("scheduling_target_changelist", standing=standing, job__id__exact=str(job.pk))
    response = log_in("view_target", "view_job").get(address)
    assert [target.key for target in response.context["cl"].result_list] == keys


def test_the_list_says_what_is_in_the_pool_and_what_was_not_found() -> None:
    job = make_job("load")
    make_target(job, "a", eligible_since=NOW, misses=2, last_outcome="missing")
    make_target(job, "b", eligible_at=NOW + DAY)
    shown = text_of(log_in("view_target").get(page("scheduling_target_changelist")))
    for words in ("in the pool", "missing not found 2 times in a row", "cools"):
        assert words in shown


def test_the_page_of_a_resource_tells_how_each_source_lists_it() -> None:
    target = make_target(make_job(), "thing", resource="thing")
    rows: dict[str, dict[str, Any]] = {
        "a": {},
        "b": {"is_enabled": False, "kwargs": {"text": NASTY}},
        "c": {"gone_at": NOW},
    }
    assert target.resource is not None
    for name, columns in rows.items():
        Listing.objects.create(
            source=Source.objects.create(name=name),
            resource=target.resource,
            first_seen_at=NOW,
            last_seen_at=NOW,
            **columns,
        )
    address = page("scheduling_resource_change", target.resource_id)
    response = log_in("view_resource", "view_run_output").get(address)
    shown = text_of(response)
    assert NASTY in shown
    assert "a listed" in shown
    assert "b disabled" in shown
    assert "c gone" in shown
    assert NASTY not in response.content.decode()
    shown = text_of(log_in("view_resource", name="bob").get(address))
    assert "b disabled" in shown
    assert "Parameters" not in shown
    assert "alert(1)" not in shown


def test_the_targets_of_a_resource_are_those_of_its_row_whatever_their_keys_look_like() -> None:
    job = make_job("load")
    target = make_target(job, "customer", resource="7")
    make_target(job, "77", resource="77")
    client = log_in("view_resource", "view_target")
    response = client.get(page("scheduling_resource_change", target.resource_id))
    (link,) = response.context["page"]["links"]
    listed = client.get(href_in(link)).context["cl"].result_list
    assert list(listed) == [target]


# --- metrics --------------------------------------------------------------------------------------


def test_prometheus_is_told_of_targets_lag_and_first_successes(client: Client) -> None:
    covered()
    Target.objects.filter(key="new").update(created_at=clock.now() - DAY)
    lines = client.get("/metrics").content.decode().splitlines()
    for line in (
        'jobs_coverage_targets{job="load",measure="known"} 4.0',
        'jobs_coverage_targets{job="load",measure="never_checked"} 1.0',
        'jobs_coverage_source_targets{job="load",measure="stale",source="forge"} 1.0',
        'jobs_coverage_lag_seconds_bucket{job="load",le="86400.0"} 0.0',
        'jobs_coverage_lag_seconds_bucket{job="load",le="604800.0"} 1.0',
        'jobs_coverage_lag_seconds_bucket{job="load",le="+Inf"} 1.0',
        'jobs_first_success_seconds_count{job="load"} 2.0',
    ):
        assert line in lines
    (age,) = (line for line in lines if line.startswith("jobs_oldest_never_checked_seconds{"))
    assert float(age.rpartition(" ")[2]) >= DAY.total_seconds()


def test_sources_are_left_out_if_there_are_many(client: Client) -> None:
    job = make_job("load")
    CoverageCount.objects.bulk_create(
        CoverageCount(job=job, source=number, measure="known", value=1)
        for number in range(MOST_PAIRS + 1)
    )
    text = client.get("/metrics").content.decode()
    assert f'jobs_coverage_targets{{job="load",measure="known"}} {MOST_PAIRS + 1}.0' in text
    assert "jobs_coverage_source_targets{" not in text
