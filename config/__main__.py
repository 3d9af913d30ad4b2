"""`python3 -m config run` and `python3 -m config test`, from a bare Python on.

This file must parse on a Python far older than the one it asks for, 2.7 included.
"""

import os
import sys

OLDEST_PYTHON = (3, 11)

if __name__ == "__main__":
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(
            "Beatkeeper needs Python 3.11 or newer, and {} is {}.{}. Start it with a newer one, "
            "for example: python3.11 -m config run".format(sys.executable, *sys.version_info[:2])
        )
    if os.name != "posix":
        sys.exit("Beatkeeper runs on Linux and macOS; on Windows, run it in WSL.")
    from config.cli import main

    sys.exit(main(sys.argv[1:]))
