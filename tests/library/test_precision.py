"""The public API in fresh processes: in JAX's default float32 and in float64, in several orders of
calls.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import run
from walk import STEPS

import qsopt

WALK = str(Path(__file__).parent / "walk.py")

PLAIN = tuple(name for name in STEPS if " of " not in name)
"""Steps on concrete numbers: the same answers in both precisions."""

TRACED = tuple(name for name in STEPS if " of " in name)

SEARCHES = {"crossovers", "lifetime", "map", "optimize", "propose", "sensitivity"}
"""Steps that take long, and compute in float64 whatever the process does."""

LONG = {"slopes of a design", "vmap of compare"}
"""Steps that take long to compile, beside others of their kind."""

TRACED_FIRST = (
    "grad of compare",
    "compare",
    "vmap of compare",
    "jit of evaluate",
    "evaluate",
    "grad of evaluate",
    "prefill",
    "grad of prefill",
    "compare",
)
"""Another order: transformed before plain, and the other way round."""

IN_FLOAT64 = (*(name for name in PLAIN if name not in ("optimize", "propose")), "grad of compare")


def test_the_walk_calls_every_public_function() -> None:
    functions = {name for name in qsopt.__all__ if name.islower() and name.isidentifier()}
    called = set(re.findall(r"qsopt\.(\w+)", Path(WALK).read_text("utf-8")))
    assert functions - {"__version__"} <= called


@cache
def walked(compiled: Path, precision: str, steps: tuple[str, ...]) -> dict[str, Any]:
    return json.loads(run(compiled, WALK, precision, *steps))


@pytest.mark.slow
def test_everything_works_in_float32(compiled: Path) -> None:
    assert set(walked(compiled, "float32", (*PLAIN, *TRACED))) == set(STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TRACED_FIRST)))
def test_the_order_of_calls_changes_no_answer(compiled: Path, name: str) -> None:
    one, other = (
        walked(compiled, "float32", (*PLAIN, *TRACED)),
        walked(compiled, "float32", TRACED_FIRST),
    )
    np.testing.assert_allclose(one[name], other[name], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in IN_FLOAT64 if name in PLAIN])
def test_concrete_answers_are_those_of_float64(compiled: Path, name: str) -> None:
    one, other = walked(compiled, "float32", (*PLAIN, *TRACED)), walked(compiled, "x64", IN_FLOAT64)
    if isinstance(one[name], dict):
        one, other = ({name: list(each[name].values())} for each in (one, other))
    np.testing.assert_allclose(one[name], other[name], rtol=1e-12)


def test_traced_answers_are_near_the_concrete_ones(compiled: Path) -> None:
    quick = tuple(step for step in STEPS if step not in SEARCHES | LONG)
    found = walked(compiled, "float32", quick)
    for name, where in (("jit of evaluate", ()), ("vmap of evaluate", (1,))):
        value = np.asarray(found[name])[where]
        np.testing.assert_allclose(value, found["evaluate"], rtol=1e-5)
    np.testing.assert_allclose(found["jit of compare"], found["compare"], rtol=1e-5)


@pytest.mark.slow
def test_a_batch_of_comparisons_is_near_them_one_by_one(compiled: Path) -> None:
    found = walked(compiled, "float32", (*PLAIN, *TRACED))
    np.testing.assert_allclose(found["vmap of compare"][1], found["compare"], rtol=1e-5)


@pytest.mark.slow
def test_derivatives_in_float32_are_near_those_in_float64(compiled: Path) -> None:
    one, other = (
        walked(compiled, precision, steps)["grad of compare"]
        for precision, steps in (("float32", (*PLAIN, *TRACED)), ("x64", IN_FLOAT64))
    )
    np.testing.assert_allclose(one, other, rtol=1e-2)
    assert other[1] < -0.01, "a larger twin is slower"


def test_intervals_are_the_same_in_single_precision(tmp_path: Path) -> None:
    """A user's process starts in float32; what it prints is counted in float64."""
    code = (
        "import json, qsopt; found = qsopt.evaluate('olmoe-1b-7b', '1xh100', "
        "qsopt.Workload(4096.0), qsopt.Deployment(batch=32)).to_dict(); "
        "print(json.dumps([found['intervals'], found['expected_error']]))"
    )
    layout = qsopt.Deployment(batch=32)
    here = qsopt.evaluate("olmoe-1b-7b", "1xh100", qsopt.Workload(4096.0), layout).to_dict()
    there, error = json.loads(run(tmp_path, "-c", code))
    assert error == here["expected_error"]
    for name, ends in here["intervals"].items():
        for level in ends:
            np.testing.assert_allclose(there[name][level], ends[level], rtol=1e-6)
