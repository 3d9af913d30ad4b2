"""Real processes that serve static files from where they lie: nothing has to be collected."""

from __future__ import annotations

from tests.acceptance.settings import *  # noqa: F403
from tests.acceptance.settings import STATIC_ROOT

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
STATIC_ROOT.mkdir(exist_ok=True)
# As in the tests themselves, which make the user.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
