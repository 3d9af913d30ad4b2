"""Settings of a project that starts a thread too early."""

from __future__ import annotations

import threading

from tests.settings import *  # noqa: F403

threading.Thread(target=threading.Event().wait, daemon=True).start()
