"""Redis as Celery's broker, with two things changed.

What is no message harms nobody: stock kombu takes an entry off the queue and then reads it, inside
the worker's event loop, and one that is not JSON, or not of a message's shape, ends the worker. And
nothing is taken off the queues while the worker cannot reach the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from queue import Empty
from typing import Any

from kombu.transport import redis

from scheduling.models import Spoilt
from workers import dead_letters, intake


def lost(errors: Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    """What is no fault of a message: no news, and a lost connection.

    kombu takes a KeyError for the latter, too, to survive a stale socket; from reading a message,
    it says that something is missing in there.
    """
    return Empty, *(error for error in errors if error is not KeyError)


class Remembering:
    """A Redis client that still knows what it has taken off a queue."""

    popped: Any = None

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        if command_name == "BRPOP":
            self.popped = answer
        return answer


class CarefulChannel:
    """Stands before one of kombu's channels."""

    client: Any
    connection_errors: tuple[type[Exception], ...]

    def _get_client(self) -> type:
        return type("Client", (Remembering, super()._get_client()), {})  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        """Deliver what was popped; what cannot be read is put aside.

        Delivering itself raises nothing but what ends the connection.
        """
        self.client.popped = None
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except lost(self.connection_errors):
            raise
        except Exception as error:
            if self.client.popped is None:
                raise
            queue, raw = self.client.popped
            put_aside(raw, queue, error)
            return True

    def _do_restore_message(
        self, payload: Any, exchange: Any, routing_key: Any, pipe: Any, leftmost: bool = False
    ) -> None:
        """What nobody could deliver does not go back to the queue."""
        if not isinstance(payload, dict) or not isinstance(payload.get("headers"), dict):
            put_aside(payload, routing_key, TypeError("what was delivered is no message"))
            return
        super()._do_restore_message(  # type: ignore[misc]
            payload, exchange, routing_key, pipe, leftmost
        )


class CarefulTransport:
    """Stands before one of kombu's transports."""

    channels: Any
    connection_errors: tuple[type[Exception], ...]

    def _deliver(self, message: Any, queue: str) -> None:
        """Deliver a message to its consumer, or put it aside if that cannot take it."""
        try:
            super()._deliver(message, queue)  # type: ignore[misc]
        except lost(self.connection_errors):
            raise
        except Exception as error:
            put_aside(message, queue, error)
            self._forget(message)

    def _forget(self, message: Any) -> None:
        """Acknowledge what was noted as delivered, or it would come back."""
        try:
            tag = message["properties"]["delivery_tag"]
            holders = [each for each in self.channels if each and tag in each.qos._delivered]
        except (KeyError, TypeError):
            return
        for channel in holders:
            channel.basic_ack(tag)


def put_aside(raw: Any, queue: Any, error: Exception) -> None:
    queue = queue.decode("utf-8", "replace") if isinstance(queue, bytes) else str(queue)
    dead_letters.post_raw(
        Spoilt.ENVELOPE,
        raw,
        queue=queue.partition(redis.Channel.sep)[0],
        detail=f"{type(error).__name__}: {str(error)[:300]}",
    )


class QoS(redis.QoS):
    def can_consume(self) -> bool:
        return intake.is_open() and bool(super().can_consume())


class Channel(CarefulChannel, redis.Channel):
    """A channel to one Redis."""

    QoS = QoS


class Transport(CarefulTransport, redis.Transport):  # type: ignore[misc]
    """`redis://`, `rediss://` and `redis+socket://`."""

    Channel = Channel


class SentinelChannel(CarefulChannel, redis.SentinelChannel):
    """A channel to whom the sentinels name."""

    QoS = QoS


class SentinelTransport(CarefulTransport, redis.SentinelTransport):  # type: ignore[misc]
    """`sentinel://`."""

    Channel = SentinelChannel
