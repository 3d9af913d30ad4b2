"""Where this installation keeps its state, and what the environment says. Standard library only.

Everything has a default, so a bare `manage.py` or `celery -A config worker` finds the installation
that `python3 -m config run` started in the same checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from config.problem import Problem

BASE_DIR = Path(__file__).resolve().parent.parent

# The kernel allows 108 bytes for the path of a unix socket on Linux and 104 on macOS.
LONGEST_SOCKET_PATH = 100

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def var_dir() -> Path:
    """Return the folder of all state: `JOBS_VAR`, or `var/` in the checkout.

    Made with mode 0700 if missing. Raises Problem if it cannot be.
    """
    path = Path(os.environ.get("JOBS_VAR") or BASE_DIR / "var").resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise Problem(f"{path} is a file; name a folder in JOBS_VAR.") from error
    except OSError as error:
        raise unwritable(error) from error
    return path


def unwritable(error: OSError) -> Problem:
    return Problem(
        f"{error.filename} cannot be written: {error.strerror}. Make the folder writable, work in "
        "a copy of it, or name another one in JOBS_VAR."
    )


def installation_id() -> str:
    """Return eight hex digits that tell this installation from others on the same machine."""
    return hashlib.sha256(os.fsencode(var_dir())).hexdigest()[:8]


def database_url() -> str:
    return os.environ.get("DATABASE_URL") or f"sqlite:///{quote(str(var_dir()))}/beatkeeper.sqlite3"


def is_broker_embedded() -> bool:
    return not os.environ.get("REDIS_URL")


def web_port() -> int:
    return int(os.environ.get("WEB_PORT") or 8000)


def flower_port() -> int:
    return int(os.environ.get("FLOWER_PORT") or 5555)


def log_level() -> str:
    return (os.environ.get("DJANGO_LOG_LEVEL") or "INFO").upper()


def email_url() -> str:
    return os.environ.get("EMAIL_URL") or "consolemail://"


def channels() -> dict[str, Any]:
    """Return JOBS_CHANNELS: a JSON object, or lines `name=address`.

    Raises Problem, which shows nothing of it: the addresses are secrets.
    """
    text = (os.environ.get("JOBS_CHANNELS") or "").strip()
    if text.startswith("{"):
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            raise Problem("JOBS_CHANNELS begins like JSON but is none; correct it.") from None
        return found
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [line.partition("=") for line in lines]
    if not all(name.strip() and address.strip() for name, _, address in pairs):
        raise Problem(
            "JOBS_CHANNELS has a line that is not name=address; write one channel to a line, or "
            "all as a JSON object."
        )
    return {name.strip(): address.strip() for name, _, address in pairs}


def web_url() -> str:
    """Return where people find the admin's server, without a slash at the end."""
    return (os.environ.get("WEB_URL") or f"http://127.0.0.1:{web_port()}").rstrip("/")


def flower_url() -> str:
    """Return where people find Flower, without a slash at the end."""
    return (os.environ.get("FLOWER_URL") or f"http://127.0.0.1:{flower_port()}").rstrip("/")


def beside(url: str, host: str) -> str:
    """Return `url` under the loopback name in use: 127.0.0.1 gets no cookie of `localhost`."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or host not in LOOPBACK:
        return url
    name = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{name}:{parts.port}" if parts.port else name))


def redis_url() -> str:
    """Return the address of Redis as redis-py writes it."""
    return os.environ.get("REDIS_URL") or f"unix://{quote(str(broker_socket()))}?db=0"


def celery_broker_url() -> str:
    """Return the address of the broker as kombu writes it; by default the one of `redis_url()`."""
    if url := os.environ.get("CELERY_BROKER_URL"):
        return url
    parts = urlsplit(redis_url())
    if parts.scheme != "unix":
        return parts.geturl()
    database = parse_qs(parts.query).get("db", ["0"])[0]
    credentials = parts.netloc.rpartition("@")[0]
    at = f"{credentials}@" if credentials else ""
    return f"redis+socket://{at}{parts.path}?virtual_host={database}"


def broker_socket() -> Path:
    """Return the path of the embedded broker's socket: in `var/`, or in a private temporary folder.

    The second only if the first is too long for the kernel. Either is the same for every process of
    this installation. Raises Problem if the temporary folder belongs to somebody else.
    """
    path = var_dir() / "broker.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"beatkeeper-{os.getuid()}-{installation_id()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # The name can be guessed and the parent is shared: refuse a folder that another user prepared.
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise Problem(f"{folder} is not a private folder of this user; remove it, or set TMPDIR.")
    return folder / "broker.sock"


def secret_key() -> str:
    """Return `DJANGO_SECRET_KEY`, or the key in `var/secret_key`, made (mode 0600) at first use."""
    if key := os.environ.get("DJANGO_SECRET_KEY"):
        return key
    path = var_dir() / "secret_key"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    # Written aside and linked into place: of several processes starting at once one wins, and none
    # reads half a key.
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret_key.")
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(64))
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
    return path.read_text(encoding="ascii")
