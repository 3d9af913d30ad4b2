"""Amounts of memory as text: 512M, 2G. Pure."""

from __future__ import annotations

import re

UNITS = {"G": 2**30, "M": 2**20, "K": 2**10}

_SIZE = re.compile("([0-9]{1,15})([GMK])")


def parse_size(text: str) -> int | None:
    """Give the bytes that a text such as 512M or 2G stands for; None if it is no such text."""
    match = _SIZE.fullmatch(text)
    return int(match[1]) * UNITS[match[2]] if match else None


def format_size(size: int) -> str:
    """Give the text of an amount in the largest unit that makes it a whole number."""
    for name, unit in UNITS.items():
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)
