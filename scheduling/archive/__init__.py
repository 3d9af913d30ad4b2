"""History that is old enough leaves the table: into files of JSON lines, or for good.

`rules` and `protected` decide what goes; `files` are written and read back; `deleting` takes what a
file surely has out of the table; `passes` does it all, one process at a time, and goes on wherever
an earlier pass was interrupted. `horizon` tells from when on the history is whole, `daily` and
`progress` are what our own job does, and how far it has come.
"""

from __future__ import annotations

JOB = "beatkeeper_archive"
