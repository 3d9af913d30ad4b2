"""The page of a running run: its output as it comes, without losing the reader's place."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from scheduling import runs
from scheduling.models import Run, State
from scheduling.runs import Result
from tests.acceptance.rig import Rig, add_family, add_job, now
from tests.browser.conftest import Admin

pytestmark = pytest.mark.browser

# More than the page shows at once.
LINES = [f"line {number}" for number in range(200)]
# A worker has to start first.
SOON = 30_000
AT_END = "pre => pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24"


@pytest.fixture
def run() -> Run:
    job = add_job("writing")
    runs.adopt(job, now=now())
    made = runs.trigger(job, by="alice", now=now())
    assert runs.start(made.pk, 1, worker="w@north/1", now=now()) is not None
    Run.objects.filter(pk=made.pk).update(lease_until=now() + timedelta(hours=1))
    return Run.objects.get(pk=made.pk)


def write(pk: UUID, lines: list[str]) -> None:
    """As the heartbeat stores what has been written so far."""
    text = "\n".join(lines)
    Run.objects.filter(pk=pk).update(output=text, output_bytes=len(text))


def look_at(admin: Admin, run: Run) -> Page:
    return admin.open(reverse("admin:scheduling_run_change", args=(run.pk,)))


def test_the_output_of_a_running_run_is_followed_to_its_end(admin: Admin, run: Run) -> None:
    write(run.pk, LINES)
    page = look_at(admin, run)
    expect(page.get_by_role("heading", name="Output so far")).to_be_visible()
    assert page.locator("#output").evaluate(AT_END)
    write(run.pk, [*LINES, "one more"])
    expect(page.locator("#output")).to_contain_text("one more")
    assert page.locator("#output").evaluate(AT_END)
    done = Result(state=State.SUCCEEDED, output="\n".join([*LINES, "one more", "done"]))
    assert runs.finish(run.pk, 1, token=run.token, result=done, now=now())
    expect(page.get_by_role("heading", name="Output", exact=True)).to_be_visible()
    expect(page.locator("#output")).to_contain_text("done")
    expect(page.get_by_role("button", name="Kill")).to_have_count(0)


def test_who_reads_further_up_stays_there(admin: Admin, run: Run) -> None:
    write(run.pk, LINES)
    page = look_at(admin, run)
    page.locator("#output").evaluate("pre => { pre.scrollTop = 100; }")
    write(run.pk, [*LINES, "one more"])
    expect(page.locator("#output")).to_contain_text("one more")
    assert page.locator("#output").evaluate("pre => pre.scrollTop") == 100


def test_what_is_selected_stays_selected_while_nothing_new_is_written(
    admin: Admin, run: Run
) -> None:
    write(run.pk, LINES)
    page = look_at(admin, run)
    page.locator("#output").evaluate("pre => getSelection().selectAllChildren(pre)")
    for _ in range(2):
        page.wait_for_event("response", lambda answer: "/fragment/" in answer.url)
    assert page.evaluate("getSelection().toString()").startswith("line 0")


def test_a_run_is_killed_by_its_button(admin: Admin, run: Run) -> None:
    page = look_at(admin, run)
    page.get_by_role("button", name="Kill").click()
    expect(page.get_by_text("is to be killed").first).to_be_visible()
    assert runs.stop_requests([run.pk]) == {run.pk: True}


def test_a_command_is_watched_while_it_works_and_killed(admin: Admin, embedded_rig: Rig) -> None:
    embedded_rig.beat()
    embedded_rig.worker()
    job = add_family("busy", deaf=True)
    runs.adopt(job, now=now())
    page = admin.open(reverse("admin:scheduling_job_change", args=(job.pk,)))
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#output")).to_contain_text("before the limit", timeout=SOON)
    expect(page.get_by_role("heading", name="Output so far")).to_be_visible()
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#run .bk-state")).to_contain_text("failed", timeout=SOON)
    expect(page.get_by_role("heading", name="Output", exact=True)).to_be_visible()
