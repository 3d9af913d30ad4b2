"""Flower's options, read when it starts (config.celery names this file in FLOWER_CONF).

Options on Flower's command line come after it and win, but none of them lifts the guard.
"""

from __future__ import annotations

import os

from config import env, flower_auth
from config.celery import refuse_bad_environment

refuse_bad_environment()
flower_auth.install()

address = os.environ.get("FLOWER_ADDRESS", "127.0.0.1")
port = env.flower_port()
auth = flower_auth.NOBODY
