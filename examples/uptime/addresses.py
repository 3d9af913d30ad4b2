"""Addresses of the installation itself: by name, so that another port or password is followed."""

from __future__ import annotations

from django.conf import settings

# Settings that an address may name. No others: an address is sent to, and shown.
NAMES = ("WEB_URL", "FLOWER_URL", "REDIS_URL")


def expand(address: str) -> str:
    """Replace `$WEB_URL`, `$FLOWER_URL` or `$REDIS_URL` where the address begins with it.

    Only a path may follow: behind a password, anything else could name another host.
    """
    name, slash, path = address.removeprefix("$").partition("/")
    if address.startswith("$") and name in NAMES:
        return f"{getattr(settings, name)}{slash}{path}"
    return address
