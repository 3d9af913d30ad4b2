"""Values as Python source."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduling.declarations.python_text import escaped, literal

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN | st.timedeltas() | st.datetimes(timezones=st.just(UTC)))
def test_a_literal_means_its_value_and_stays_on_its_line(value: Any) -> None:
    text = literal(value)
    assert text.isprintable()
    assert eval(text, {"timedelta": timedelta, "datetime": datetime}) == value


@given(st.text())
def test_a_comment_stays_on_its_line(text: str) -> None:
    assert escaped(text).isprintable()
