"""The error that ends a command of `python -m config` with a sentence, not a traceback."""

from __future__ import annotations


class Problem(Exception):
    """What is wrong, with the offending value, and what to do about it."""
