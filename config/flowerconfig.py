"""Flower's options, read when it starts (config.celery names this file in FLOWER_CONF).

Options on Flower's command line come after it and win, but none of them lifts the guard.
"""

from __future__ import annotations

import os

from config import flower_auth

flower_auth.install()

address = os.environ.get("FLOWER_ADDRESS", "127.0.0.1")
port = int(os.environ.get("FLOWER_PORT") or 5555)
auth = flower_auth.NOBODY
