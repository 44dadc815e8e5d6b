"""The advantage of MoE over its dense twin, best and worst, against brute force and against
`compare`.
"""

import itertools
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from search_problems import problem

from qsopt import compare, law
from qsopt.comparison.dense import RELEASED_GQA8
from qsopt.deployments.capped import BATCH
from qsopt.search.dense import POINTS, DenseSide
from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import Solution, optimize

PROBLEMS = {
    "best for moe": problem(objective="advantage"),
    "worst for moe": problem(objective="advantage", minimize=True),
    "best over a released shape": problem(
        objective="advantage", kind=RELEASED_GQA8, law=law("power"), law_raw=False
    ),
}


@cache
def found(name: str) -> Solution:
    return optimize(PROBLEMS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_advantage_is_that_of_brute_force_and_of_compare(name):
    """The dense side is in its own true optimum: compare says the same of the answer, of each kind
    of match and with the calibrated q too.
    """
    asked, answer = PROBLEMS[name], found(name)
    pick = min if asked.minimize else max
    service, kind = asked.service, asked.kind
    how: dict[str, Any] = {"twin": kind.twin, "twin_attention": kind.attention}
    how |= {"law": asked.law, "law_raw": asked.law_raw}
    ratio = float(compare(answer.best.model, service=service, **how).ratio)
    assert answer.value == pytest.approx(-np.log(ratio), abs=1e-9)
    evaluator = Evaluator.for_problem(asked)
    rows = evaluator.admission.admissible(
        np.array(list(itertools.product(*(each.legal() for each in asked.architecture))))
    )
    merits = evaluator.designs(rows).merits
    values = (-merits if asked.minimize else merits)[np.isfinite(merits)]
    assert answer.value == pytest.approx(pick(values), abs=1e-12)


def test_the_dense_curve_ends_where_no_twin_fits():
    """The largest twin fits, the next place of the curve does not, and beyond it the curve is
    level.
    """
    asked = PROBLEMS["best for moe"]
    side, low, high = DenseSide(asked.reference, asked.service), 1e10, 1e13
    curve = side.curve(low, high)
    largest, place = float(curve.largest), (high / low) ** (1 / (POINTS - 1) / (BATCH + 1))
    fits, not_any_more = side.throughputs(np.array([largest, largest * place * 1.001]))
    assert fits > 0
    assert not_any_more == 0
    assert float(curve.at(jnp.asarray(high))) == pytest.approx(np.log(fits))
    known = np.exp(np.asarray(curve.log_size))
    assert np.allclose(
        side.throughputs(known[known <= largest]), np.exp(curve.log_throughput[known <= largest])
    )


@pytest.mark.slow
def test_best_and_worst_are_certified_and_in_order():
    assert found("worst for moe").value < found("best for moe").value
    for name in PROBLEMS:
        assert found(name).certificate.complete
        assert 0 <= found(name).certificate.gap < 0.01
        assert bool(found(name).best.metrics.feasible)
