from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling import redis
from workers import locks
from workers.locks import Busy

LEASE = timedelta(seconds=30)


def holders() -> dict[str, str]:
    client = redis.client()
    return {
        str(key).removeprefix(locks.PREFIX): " ".join(map(str, client.zrange(key, 0, -1)))
        for key in client.keys(f"{locks.PREFIX}*")
    }


def test_all_locks_of_a_run_are_taken_with_a_time_to_live() -> None:
    assert locks.acquire(["a", "b"], "run/1", lease=LEASE) is None
    assert holders() == {"a": "run/1", "b": "run/1"}
    assert 0 < redis.client().pttl("jobs:seats:a") <= 30_000


def test_if_one_is_held_none_is_taken_and_the_holder_is_named() -> None:
    locks.acquire(["b"], "other/1", lease=LEASE)
    assert locks.acquire(["a", "b", "c"], "run/1", lease=LEASE) == Busy("b", ("other/1",))
    assert holders() == {"b": "other/1"}


def test_the_holder_extends_its_own() -> None:
    locks.acquire(["a"], "run/1", lease=timedelta(seconds=1))
    assert locks.acquire(["a"], "run/1", lease=LEASE) is None
    assert redis.client().pttl("jobs:seats:a") > 1000


def test_a_release_leaves_the_locks_of_others() -> None:
    locks.acquire(["a"], "run/1", lease=LEASE)
    locks.acquire(["b"], "other/1", lease=LEASE)
    locks.release(["a", "b"], "run/1")
    assert holders() == {"b": "other/1"}


def test_another_attempt_of_the_same_run_is_another_holder() -> None:
    locks.acquire(["a"], "run/1", lease=LEASE)
    assert locks.acquire(["a"], "run/2", lease=LEASE) == Busy("a", ("run/1",))


def test_a_lock_with_several_seats_is_full_when_all_are_taken() -> None:
    seats = {"a": 2}
    for holder in ("one/1", "two/1"):
        assert locks.acquire(["a"], holder, lease=LEASE, seats=seats) is None
    assert locks.acquire(["a"], "three/1", lease=LEASE, seats=seats) == Busy(
        "a", ("one/1", "two/1")
    )
    locks.release(["a"], "one/1")
    assert locks.acquire(["a"], "three/1", lease=LEASE, seats=seats) is None


def test_a_seat_whose_lease_is_over_is_free_though_others_hold_the_lock_on() -> None:
    seats = {"a": 2}
    locks.acquire(["a"], "long/1", lease=LEASE, seats=seats)
    redis.client().zadd(f"{locks.PREFIX}a", {"over/1": 1})
    assert locks.acquire(["a"], "next/1", lease=LEASE, seats=seats) is None
    assert holders() == {"a": "long/1 next/1"}


def test_a_short_lease_does_not_shorten_the_lease_of_another() -> None:
    seats = {"a": 2}
    locks.acquire(["a"], "long/1", lease=LEASE, seats=seats)
    locks.acquire(["a"], "short/1", lease=timedelta(seconds=1), seats=seats)
    assert redis.client().pttl(f"{locks.PREFIX}a") > 20_000


def test_those_who_are_gone_are_cleared_away_together() -> None:
    locks.acquire(["a"], "dead/1", lease=LEASE, seats={"a": 3})
    locks.acquire(["a"], "gone/2", lease=LEASE, seats={"a": 3})
    locks.release(["a"], "dead/1", "gone/2")
    assert holders() == {}


def test_nothing_to_lock_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "client", None)
    assert locks.acquire([], "run/1", lease=LEASE) is None
    locks.release([], "run/1")


def test_scripts_survive_a_redis_that_forgot_them() -> None:
    locks.acquire(["a"], "run/1", lease=LEASE)
    redis.client().script_flush()
    assert locks.acquire(["a"], "run/2", lease=LEASE) == Busy("a", ("run/1",))


def test_an_outage_opens_the_gate_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(name: str) -> None:
        raise redis.RedisError("no route")

    with monkeypatch.context() as outage:
        outage.setattr(locks, "_script", down)
        for _ in range(3):
            assert locks.acquire(["a"], "run/1", lease=LEASE) is None
    assert caplog.text.count("Redis does not answer") == 1
    caplog.set_level("INFO")
    locks.release(["a"], "run/1")
    assert "answers again" in caplog.text
