"""Numbers with units: hand-worked values, round trips, and what is refused."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsopt.cli.quantities import AXIS_UNITS, range_end
from qsopt.errors import InputError
from qsopt.maps.axes import AXIS_KINDS
from qsopt.maps.crossover import SweptInput
from qsopt.units import (
    BYTE_RATE,
    BYTES,
    COUNT,
    DOLLARS,
    LARGE,
    MILLISECONDS,
    NUMBER,
    SECONDS,
    SHARE,
    TOKENS,
    Unit,
    quantity,
    written,
)

UNITS = (
    TOKENS, COUNT, LARGE, SECONDS, MILLISECONDS, BYTES, BYTE_RATE, SHARE, DOLLARS, NUMBER
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("8192", TOKENS, 8192),
        ("8k", TOKENS, 8192),
        ("128k", TOKENS, 131072),
        ("128K", TOKENS, 131072),
        ("1M", TOKENS, 1048576),
        ("0.5M", TOKENS, 524288),
        ("1e3", TOKENS, 1000),
        ("1k", COUNT, 1024),
        ("15T", LARGE, 15e12),
        ("70B", LARGE, 70e9),
        ("100k", LARGE, 100e3),
        ("40ms", SECONDS, 0.04),
        ("0.1ms", SECONDS, 0.0001),
        ("250us", SECONDS, 250e-6),
        ("2s", SECONDS, 2),
        ("1.5min", SECONDS, 90),
        ("40", MILLISECONDS, 40),
        ("40ms", MILLISECONDS, 40),
        ("2s", MILLISECONDS, 2000),
        ("80GB", BYTES, 80e9),
        ("80 GB", BYTES, 80e9),
        ("80GiB", BYTES, 80 * 2**30),
        ("3.35TB/s", BYTE_RATE, 3.35e12),
        ("400Gb/s", BYTE_RATE, 50e9),
        ("400Gbit/s", BYTE_RATE, 50e9),
        ("90%", SHARE, 0.9),
        ("0.9", SHARE, 0.9),
        ("1.78$/h", DOLLARS, 1.78),
        ("1.5", NUMBER, 1.5),
    ],
)
def test_hand_worked(text: str, unit: Unit, value: float) -> None:
    assert quantity(text, unit) == value


@given(st.sampled_from(UNITS), st.floats(allow_nan=False, allow_infinity=False))
def test_round_trip_of_any_number(unit: Unit, value: float) -> None:
    assert quantity(written(value, unit), unit) == value


@given(st.sampled_from(UNITS), st.integers(0, 10**6), st.data())
def test_round_trip_of_written_units(unit: Unit, count: int, data: st.DataObject) -> None:
    """A count of any unit has its value, and is written no longer than it was."""
    name = data.draw(st.sampled_from(["", *unit.factors]))
    text, factor = f"{count}{name}", unit.factors[name] if name else 1
    value = quantity(text, unit)
    assert value == pytest.approx(float(count * factor), rel=1e-15)
    again = written(value, unit)
    assert quantity(again, unit) == value
    assert len(again) <= len(text)


@given(st.sampled_from(UNITS), st.text(max_size=12))
def test_any_text_is_a_number_or_refused_in_one_line(unit: Unit, text: str) -> None:
    try:
        assert isinstance(quantity(text, unit, "context"), float)
    except InputError as error:
        message = str(error)
        assert message.startswith("context = ")
        assert unit.examples in message
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "unit", "says"),
    [
        ("", TOKENS, "is not a number"),
        ("many", TOKENS, "is not a number"),
        ("--5", TOKENS, "is not a number"),
        ("4kk", TOKENS, "unknown unit 'kk'"),
        ("4KiB", TOKENS, "unknown unit 'KiB'"),
        ("40MS", SECONDS, "unknown unit 'MS'"),
        ("80Gb", BYTES, "unknown unit 'Gb'"),
        ("3TB", BYTE_RATE, "unknown unit 'TB'"),
        ("0x10", COUNT, "unknown unit 'x10'"),
        ("1e9999k", COUNT, "unknown unit"),
        ("1k", NUMBER, "unknown unit 'k'"),
        ("1,024", COUNT, "unknown unit ',024'"),
    ],
)
def test_refused(text: str, unit: Unit, says: str) -> None:
    with pytest.raises(InputError) as caught:
        quantity(text, unit)
    assert says in str(caught.value)
    assert f"write {unit.examples}" in str(caught.value)


def test_every_axis_has_a_unit() -> None:
    assert {*AXIS_KINDS, *get_args(SweptInput)} <= set(AXIS_UNITS)
    assert range_end("1k", "context", "from") == 1024
    assert range_end("3.35TB/s", "bandwidth", "from") == 3.35e12
    assert range_end("40ms", "tpot", "from") == 0.04
    assert range_end("50%", "sparsity", "from") == 0.5
    assert range_end(None, "q", "from") is None


def test_what_is_not_finite_is_left_to_the_field() -> None:
    assert math.isnan(quantity("nan", TOKENS))
    assert quantity("-inf", TOKENS) == -math.inf
    assert written(math.inf, LARGE) == "inf"
