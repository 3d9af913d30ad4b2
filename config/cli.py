"""The two commands: parse, prepare `.venv`, hand over. Standard library only."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from config import bootstrap, env, env_check, run, verify
from config.problem import Problem


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit code.

    What cannot work is one sentence on stderr, and 1.
    """
    os.chdir(env.BASE_DIR)
    # Everything behind `test` is pytest's, options included: argparse would claim those.
    own, others = (arguments[:1], arguments[1:]) if arguments[:1] == ["test"] else (arguments, [])
    options = parser().parse_args(["test", "--help"] if others in (["-h"], ["--help"]) else own)
    try:
        if options.command == "run":
            if options.web_port:
                os.environ["WEB_PORT"] = str(options.web_port)
            if options.flower_port:
                os.environ["FLOWER_PORT"] = str(options.flower_port)
        env_check.check()
        if options.command == "test":
            bootstrap.enter_venv(extras={"dev"}, arguments=arguments)
            return verify.verify(others)
        # PostgreSQL's driver is installed only where the environment names such a database.
        extras = set() if env.database_url().startswith("sqlite") else {"postgres"}
        bootstrap.enter_venv(extras=extras, arguments=arguments)
        return run.run()
    except (Problem, OSError) as problem:
        print(f"config {options.command}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser(prog="python3 -m config")
    verbs = commands.add_subparsers(dest="command", required=True)
    start = verbs.add_parser("run", help="set everything up and run it, until Ctrl-C")
    start.add_argument("--web-port", type=port, metavar="PORT", help="instead of WEB_PORT")
    start.add_argument("--flower-port", type=port, metavar="PORT", help="instead of FLOWER_PORT")
    verbs.add_parser(
        "test",
        help="set everything up and run every check and test; with arguments: only pytest",
        usage="python3 -m config test [pytest arguments]",
    )
    return commands


def port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port; choose one from 1 to 65535")
    return number
