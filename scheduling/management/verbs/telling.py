"""tell: try whether a recipient is reached."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from scheduling import channels
from scheduling.management.verbs.base import Answer, BadInput, Say, Verb, operator
from scheduling.recipients import is_address
from workers.notifications.message import trial_message
from workers.notifications.sending import Unsent, send_mail, send_to_channel


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "recipient", metavar="NAME", help="a channel of JOBS_CHANNELS, or an e-mail address"
    )


def tell(options: Namespace, say: Say) -> Answer:
    name = options.recipient
    if not is_address(name) and name not in channels.known():
        raise BadInput(f"{channels.unknown(name)}; give one of them, or an e-mail address")
    message = trial_message(name, by=operator())
    try:
        if is_address(name):
            send_mail(message, addresses=[name])
        else:
            send_to_channel(message, name=name)
    except Unsent as error:
        return Answer(
            data={"recipient": name, "ok": False, "error": str(error)},
            text=f"{name} was not told: {error}",
            ok=False,
        )
    return Answer(
        data={"recipient": name, "ok": True, "error": ""},
        text=f"{name} was told; look whether it has arrived",
    )


VERBS = (Verb("tell", "send a test message to a channel or an address", arguments, tell),)
