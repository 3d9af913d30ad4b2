"""What a person does in the admin, done by a browser before a whole installation."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from scheduling import runs
from scheduling.models import Job, Run, State
from tests.acceptance.rig import Rig, add_job, now
from tests.browser.conftest import Admin
from tests.waiting import wait_for

pytestmark = pytest.mark.browser

# A worker has to start first.
SOON = 30_000


def make_job(name: str, **fields: object) -> Job:
    job = add_job(name, **fields)
    runs.adopt(job, now=now())
    return job


def job_page(job: Job) -> str:
    return reverse("admin:scheduling_job_change", args=(job.pk,))


def test_a_job_runs_by_its_button_and_its_output_appears(admin: Admin, embedded_rig: Rig) -> None:
    embedded_rig.beat()
    embedded_rig.worker()
    page = admin.open(reverse("admin:scheduling_job_changelist"))
    page.get_by_role("link", name="scribble").first.click()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text("runs now")).to_be_visible()
    expect(page.locator("#run")).to_contain_text("manual, asked for by alice")
    # Without a click: the page keeps itself up to date until the run has ended.
    expect(page.locator("#run .bk-state")).to_contain_text("succeeded", timeout=SOON)
    expect(page.locator("#output")).not_to_be_empty()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    page = admin.open("/admin/")
    expect(page.locator(".bk-home")).to_contain_text("scribble")


def test_a_run_is_stopped_by_its_button(admin: Admin, embedded_rig: Rig) -> None:
    embedded_rig.beat()
    embedded_rig.worker()
    until = str(embedded_rig.folder / "never")
    job = make_job("holding", task="tests.testapp.jobs.hold", kwargs={"until": until})
    page = admin.open(job_page(job))
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#run .bk-state")).to_contain_text("running", timeout=SOON)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("was asked to stop").first).to_be_visible()
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="it stops")
    expect(page.locator("#run .bk-state")).not_to_contain_text("running", timeout=SOON)


def test_a_job_is_paused_and_resumed_by_form(admin: Admin) -> None:
    job = make_job("resting", schedule="every 1h")
    page = admin.open(job_page(job))
    page.get_by_role("link", name="Pause …").click()
    page.get_by_label("Reason").fill("new <b>server</b>")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("new <b>server</b>")).to_be_visible()
    job.refresh_from_db()
    assert (job.paused_by, job.pause_reason) == ("alice", "new <b>server</b>")
    page.get_by_role("link", name="Resume …").click()
    page.get_by_label("Leave it").check()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("link", name="Pause …")).to_be_visible()
    job.refresh_from_db()
    assert job.paused_at is None


def test_a_schedule_is_explained_while_it_is_typed_and_refused_where_it_cannot_be_read(
    admin: Admin,
) -> None:
    job = make_job("typed", schedule="every 1h")
    page = admin.open(job_page(job))
    page.locator("nav").get_by_text("Schedule", exact=True).click()
    field = page.locator("#id_schedule")
    field.fill("cron 30 4 * * 1-5 tz Europe/Berlin")
    expect(page.locator(".bk-preview")).to_contain_text("Monday to Friday")
    field.fill("every blue moon")
    expect(page.locator(".bk-preview")).to_contain_text("cannot be read")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist")).to_contain_text("blue moon")
    job.refresh_from_db()
    assert job.schedule == "every 1h"


def test_the_form_of_a_new_job_asks_for_what_its_kind_needs(admin: Admin) -> None:
    page = admin.open(reverse("admin:scheduling_job_add"))
    page.locator("#id_name").fill("tidy")
    page.locator("#id_kind").select_option("command")
    expect(page.locator("#id_task")).to_be_hidden()
    page.locator("#id_command").select_option("clearsessions")
    page.locator("nav").get_by_text("Schedule", exact=True).click()
    page.locator("#id_schedule").fill("every 10m")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    job = Job.objects.get(name="tidy")
    assert (job.command, job.task, job.schedule) == ("clearsessions", "", "every 10m")


def test_the_pages_fit_a_phone(admin: Admin) -> None:
    job = make_job("a-name-without-any-place-to-break-it-" * 4, schedule="every 1h")
    run = runs.trigger(job, by="alice", now=now())
    Run.objects.filter(pk=run.pk).update(state=State.FAILED, error="x" * 500, output="y" * 500)
    admin.page.set_viewport_size({"width": 390, "height": 800})
    for path in (
        "/admin/",
        reverse("admin:scheduling_job_changelist"),
        job_page(job),
        reverse("admin:scheduling_run_changelist"),
        reverse("admin:scheduling_run_change", args=(run.pk,)),
    ):
        page = admin.open(path)
        page.wait_for_load_state("networkidle")
        excess = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert excess <= 0, f"{path} is {excess} px too wide"


def test_the_lists_fit_beside_the_sidebar(admin: Admin) -> None:
    job = make_job("a_job_with_a_rather_long_name", schedule="cron 0 3 * * * tz Europe/Berlin")
    run = runs.trigger(job, by="alice", now=now())
    Run.objects.filter(pk=run.pk).update(
        state=State.FAILED, reason="hard_limit", worker="celery@host.example.org", ended_at=now()
    )
    Job.objects.filter(pk=job.pk).update(overrides={"schedule": {"code": "every 5m", "by": "a"}})
    for model in ("job", "run", "target"):
        page = admin.open(reverse(f"admin:scheduling_{model}_changelist"))
        page.wait_for_load_state("networkidle")
        excess = page.locator("#result_list").evaluate(
            "e => e.offsetWidth - e.parentElement.clientWidth"
        )
        assert excess <= 0, f"the list of {model}s is {excess} px too wide"


def test_no_text_is_cut_off_in_the_lists_of_a_phone(admin: Admin) -> None:
    make_job("a_job_with_a_rather_long_name_of_several_words", schedule="every 1h")
    admin.page.set_viewport_size({"width": 390, "height": 800})
    page = admin.open(reverse("admin:scheduling_job_changelist"))
    cut = page.locator("#result_list :is(td, th):visible").evaluate_all(
        "cells => cells.filter(e => e.scrollHeight > e.clientHeight + 1).map(e => e.innerText)"
    )
    assert cut == []
