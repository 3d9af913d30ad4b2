"""A whole installation, and a browser in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.acceptance.conftest import embedded_rig, pytest_runtest_makereport, sqlite_template
from tests.acceptance.rig import Rig
from tests.waiting import wait_for

__all__ = ["embedded_rig", "pytest_runtest_makereport", "sqlite_template"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
PASSWORD = "correct horse battery staple"


def find_browser() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


# Not longer than its module: until it ends, an event loop counts as running in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        missing = f"no Chromium: none of {', '.join(NAMES)} is on PATH and CHROMIUM is not set"
        if os.environ.get("JOBS_TEST_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Chromium's sandbox refuses to work for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's synchronous interface waits in that loop only while it talks to the browser.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@dataclass(kw_only=True)
class Admin:
    """The admin in a browser, logged in; `problems` is what the browser complained of."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def look_at(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.problems.append(request.url)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}{path}")
        return self.page


@pytest.fixture
def admin(browser: Browser, embedded_rig: Rig) -> Iterator[Admin]:
    embedded_rig.environ["DJANGO_SETTINGS_MODULE"] = "tests.browser.settings"
    User.objects.create_superuser("alice", "alice@example.org", PASSWORD)
    address = serve(embedded_rig)
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(15_000)
    page = context.new_page()
    admin = Admin(page=page, address=address)
    page.on("pageerror", lambda error: admin.problems.append(str(error)))
    page.on("dialog", lambda dialog: admin.problems.append(dialog.message))
    page.on("request", admin.look_at)
    admin.open("/admin/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{address}/admin/")
    yield admin
    context.close()
    assert admin.problems == [], "the browser complained, or something left this machine"


def serve(rig: Rig) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = ["--workers", "1", "--threads", "4", "--no-control-socket"]
    rig.start("web", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", *options)
    wait_for(lambda: answers(f"{address}/admin/login/"), timeout=30, message="the web process")
    return address


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
