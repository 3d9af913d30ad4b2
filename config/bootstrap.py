"""Make `.venv` and keep it in step with pyproject.toml and the constraints.

Standard library only, as everything is that runs before `.venv` exists.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import env
from config.problem import Problem

VENV = env.BASE_DIR / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "beatkeeper.json"
INPUTS = (env.BASE_DIR / "pyproject.toml", env.BASE_DIR / "config" / "constraints.txt")

# What pip's output says -> what that means.
PIP_HINTS = (
    (("No space left on device",), "The disk is full."),
    (
        (
            "NewConnectionError",
            "NameResolutionError",
            "name resolution",
            "(from versions: none)",
            "Name or service not known",
            "Connection refused",
            "timed out",
            "Network is unreachable",
            "Failed to establish a new connection",
            "ProxyError",
        ),
        "The package index cannot be reached: check the network, or the proxy and index in "
        "pip's configuration.",
    ),
    (
        ("gcc", "cc1", "clang", "Unable to find a compiler", "Python.h"),
        "A package has no ready-made wheel for this machine and there is no C compiler: "
        "install one (Debian: apt install build-essential python3-dev).",
    ),
    (
        ("No matching distribution found",),
        "The package index lacks a version named in config/constraints.txt.",
    ),
    (
        ("ResolutionImpossible",),
        "pyproject.toml and config/constraints.txt contradict each other.",
    ),
)


def enter_venv(*, extras: Set[str], arguments: Sequence[str]) -> None:
    """Continue in `.venv` with the project and `extras` installed; return only if already there.

    1. Under a lock, so that two commands at once install once.
    2. Install if pyproject.toml, the constraints, the Python or the extras changed since.
    3. Replace this process by the environment's Python, with the same arguments.
    """
    with exclusive(state_folder() / "bootstrap.lock"):
        installed = read_stamp()
        if installed.inputs != fingerprint() or not extras <= installed.extras:
            install(extras | installed.extras)
    if not VENV.samefile(sys.prefix):
        os.execv(PYTHON, [str(PYTHON), "-m", "config", *arguments])


def state_folder() -> Path:
    """Return the folder of all state; raise Problem if nothing can be written there."""
    folder = env.var_dir()
    try:
        (folder / "bootstrap.lock").touch()
    except OSError as error:
        raise env.unwritable(error) from error
    return folder


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fingerprint() -> str:
    """Return a digest of all that decides what has to be installed."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()} {env.BASE_DIR}".encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What `.venv` was made from; written last, so that an installation that broke off has none."""

    inputs: str = ""
    extras: frozenset[str] = frozenset()


def read_stamp() -> Stamp:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return Stamp()
    return Stamp(inputs=found["inputs"], extras=frozenset(found["extras"]))


def install(extras: Set[str]) -> None:
    started = time.monotonic()
    for path in filter(Path.exists, (env.BASE_DIR, VENV)):
        if not os.access(path, os.W_OK):
            raise Problem(
                f"{path} cannot be written, so nothing can be installed there. "
                "Make the folder writable, or work in a copy of it."
            )
    say("Installing into .venv, which takes about 15 seconds ...")
    STAMP.unlink(missing_ok=True)
    if not is_usable_venv():
        make_venv()
    project = f".[{','.join(sorted(extras))}]" if extras else "."
    run_pip("install", "--editable", project, "--constraint", str(INPUTS[1]))
    stamp = {"inputs": fingerprint(), "extras": sorted(extras)}
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")
    say(f"Installed in {time.monotonic() - started:.1f} s.")


def is_usable_venv() -> bool:
    """Tell whether `.venv` runs, and runs the Python that runs this."""
    try:
        found = subprocess.run(
            [PYTHON, "-c", "import sys; print(sys.version)"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.stdout.strip() == sys.version


def make_venv() -> None:
    # Debian takes ensurepip out of Python unless python3-venv is installed; its pip can step in.
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not has_ensurepip and importlib.util.find_spec("pip") is None:
        raise Problem(
            f"{sys.executable} has neither ensurepip nor pip, so no package can be installed. "
            "Install one (Debian: apt install python3-venv) and try again."
        )
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    check(command if has_ensurepip else [*command, "--without-pip"], "The virtual environment")


def run_pip(*arguments: str) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--quiet"]
    if (VENV / "bin" / "pip").exists():
        pip = [str(PYTHON), "-m", "pip"]
    else:
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    check([*pip, *arguments, *options], "The installation")


def check(command: Sequence[str], what: str) -> None:
    done = subprocess.run(
        command,
        cwd=env.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stdout.strip().splitlines()[-12:])
        raise Problem(f"{what} failed. {hint(done.stdout)}\n{tail}")


def hint(output: str) -> str:
    """Return what the output of a failed installation means, in a sentence."""
    for signs, meaning in PIP_HINTS:
        if any(sign in output for sign in signs):
            return meaning
    return "The last lines of its output:"


def say(sentence: str) -> None:
    print(sentence, flush=True)
