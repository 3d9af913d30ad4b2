"""Be a shepherd from scratch, its input being the socket. A script: `python -I -S launch.py`."""

from __future__ import annotations

import os
import socket
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

    from workers import shepherd

    shepherd.serve(socket.socket(fileno=sys.stdin.fileno()))
