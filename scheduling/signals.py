"""Django signals for teams. Declared here, sent by `scheduling`, received elsewhere.

| signal         | sent                                         | payload |
|----------------|----------------------------------------------|---------|
| `beat_started` | a beat is ready for its first tick           | `name`  |
| `beat_stopped` | a beat stops cleanly                         | `name`  |
| `run_started`  | an attempt was accepted                      | `run`   |
| `run_ended`    | a run has succeeded or failed                | `run`   |
| `fire_skipped` | a fire, or a stretch of fires, was skipped   | `run`   |

`sender` is the class `Run`, for the beat signals the scheduler's class. The run signals are sent
inside the transaction that made them true: an error in a receiver rolls it back, so defer anything
outside the database with `transaction.on_commit`.
"""

from __future__ import annotations

from django.dispatch import Signal

beat_started = Signal()
beat_stopped = Signal()
run_started = Signal()
run_ended = Signal()
fire_skipped = Signal()
