"""dead-letters: messages that nobody could work on."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from scheduling.management.verbs.base import Answer, Say, Verb, brief, count, iso, table
from scheduling.models import DeadLetter, Spoilt

COLUMNS = ("queue", "worker", "task", "message_id", "detail", "content")


def add_dead_letters(parser: ArgumentParser) -> None:
    parser.add_argument("--kind", choices=Spoilt.values, help="only these")
    parser.add_argument("--limit", type=count, default=20, help="how many, default 20")


def show_dead_letters(options: Namespace, say: Say) -> Answer:
    letters = DeadLetter.objects.order_by("-pk")
    if options.kind:
        letters = letters.filter(kind=options.kind)
    found = list(letters[: options.limit])
    data = [
        {
            "id": letter.pk,
            "kind": letter.kind,
            "received_at": iso(letter.received_at),
            **{name: getattr(letter, name) for name in COLUMNS},
        }
        for letter in found
    ]
    rows = [
        (brief(each.received_at), each.kind, each.queue, each.task or "-", each.detail)
        for each in found
    ]
    text = (
        table(("RECEIVED", "KIND", "QUEUE", "TASK", "DETAIL"), rows) if rows else "There are none"
    )
    return Answer(data=data, text=text)


VERBS = (
    Verb(
        "dead-letters",
        "messages that nobody could work on, newest first",
        add_dead_letters,
        show_dead_letters,
    ),
)
