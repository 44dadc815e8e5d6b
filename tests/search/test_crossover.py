"""Crossings: the verdict of `compare` differs on both sides of each, and a fine scan sees no
other.
"""

import itertools
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest

from qsopt import InputError, Workload, compare, ideal, load_cluster, load_efficiency, load_model
from qsopt.comparison.compare import verdict
from qsopt.deployments.capped import ServedModel, within_cap
from qsopt.deployments.layouts import legal_layouts
from qsopt.maps.crossover import Crossovers, SweptInput, _spaced, crossovers
from qsopt.maps.decode_samples import decode_measure
from qsopt.maps.pair import MatchedPair
from qsopt.physics.evaluate import compiled_metrics
from qsopt.spec.service import Service

MODEL = "mixtral-8x7b"


@cache
def sides(
    devices: int = 4, context: float = 4096.0, efficiency: str = "fitted", q: float = 1.9
) -> MatchedPair:
    chosen = ideal() if efficiency == "ideal" else load_efficiency(efficiency)
    service = Service(load_cluster(f"{devices}xh100"), Workload(context=context), chosen)
    return MatchedPair(load_model(MODEL), service, q)


RANGES = {
    "context": (sides(), 128.0, 65536.0),
    "batch": (sides(efficiency="ideal"), 1.0, 4096.0),
    "devices": (sides(context=65536.0), 1.0, 12.0),
    "q": (sides(), 0.8, 6.0),
    "bandwidth": (sides(), 1e11, 1e14),
}


@cache
def found(over: SweptInput) -> Crossovers:
    pair, low, high = RANGES[over]
    return crossovers(pair, over, low, high)


@pytest.mark.parametrize("over", RANGES)
def test_ends_and_flips_agree_with_a_fine_scan(over):
    """A scan eight times as fine as the first grid sees the verdict change exactly where the
    crossings say.
    """
    pair, low, high = RANGES[over]
    result = found(over)
    samples = decode_measure(pair, over, high)(
        _spaced(low, high, 8 * 97, over in ("batch", "devices"))
    )
    flips = [
        (first, second, f"to {verdict(*samples[second]).removesuffix(' wins')}")
        for first, second in itertools.pairwise(samples)
        if all(samples[first])
        and all(samples[second])
        and verdict(*samples[first]) != verdict(*samples[second])
    ]
    for first, second, direction in flips:
        inside = [crossing for crossing in result.crossings if first <= crossing.value <= second]
        assert len(inside) % 2 == 1, (first, second)
        assert inside[-1].direction == direction
    assert len(result.crossings) >= len(flips)
    assert result.at_low.verdict == verdict(*samples[min(samples)])
    assert result.at_high.verdict == verdict(*samples[max(samples)])


@pytest.mark.parametrize("over", ["context", "q"])
def test_compare_flips_at_a_crossing(over):
    pair = RANGES[over][0]
    assert found(over).crossings, "a range that holds a crossing"
    crossing = found(over).crossings[0]
    verdicts = []
    for factor in (1 - 1e-6, 1 + 1e-6):
        at = replace(pair, q=crossing.value * factor) if over == "q" else pair
        workload = (
            pair.service.workload if over == "q" else Workload(context=crossing.value * factor)
        )
        verdicts.append(
            compare(
                at.model,
                at.service.cluster,
                workload,
                at.service.efficiency,
                at.q,
                twin="same-body",
            ).verdict
        )
    expected = ["moe wins", "dense wins"]
    assert verdicts == (expected if crossing.direction == "to dense" else expected[::-1])


def test_band_in_batch_has_two_ends():
    """Few sequences read few experts, many are bound by arithmetic: dense wins in between (ideal,
    one device of any size).
    """
    directions = [crossing.direction for crossing in found("batch").crossings]
    assert directions[0] == "to dense"
    assert all(one != other for one, other in itertools.pairwise(directions))


def test_where_a_side_stops_to_fit_is_an_edge():
    edges = found("devices").edges
    assert edges[0].below in ("both infeasible", "moe infeasible")
    assert edges[0].value == round(edges[0].value)
    assert all(edge.below != edge.above for edge in edges)


@pytest.mark.parametrize("cap", [1, 3, 7, 40, 1e6])
def test_capped_batch_is_the_best_whole_batch_under_the_cap(cap):
    pair = sides()
    layouts = legal_layouts(pair.model, pair.service.cluster)
    for index in (0, layouts.tensor.shape[0] - 1):
        layout = jax.tree.map(lambda leaf: np.asarray(leaf)[index], layouts)  # noqa: B023
        case = ServedModel(pair.model, pair.service, cap)
        best = jax.jit(within_cap)(case, layout)
        unit, replicas = float(layout.pipeline * layout.data), float(4 // layout.replica_devices)
        batch = float(best.deployment.batch)
        if not bool(best.feasible):
            assert cap < unit or not _fits(pair, layout, unit)
            continue
        used = float(best.throughput) * float(_reached(pair, layout, batch).tpot) / batch
        assert used * batch <= cap
        assert used == pytest.approx(min(replicas, cap // unit))
        more = batch + unit
        assert used * more > cap or not _fits(pair, layout, more)


def _reached(pair, layout, batch):
    at = eqx.tree_at(lambda d: d.batch, layout, np.asarray(float(batch)))
    return compiled_metrics(pair.model, pair.service, at)


def _fits(pair, layout, batch) -> bool:
    return bool(_reached(pair, layout, batch).feasible)


@pytest.mark.parametrize(
    ("over", "low", "high", "words"),
    [
        ("context", 5.0, 2.0, "smaller first"),
        ("q", 1e-3, 2.0, "feed-forward"),
        ("colour", 1.0, 2.0, "take one of"),
    ],
)
def test_bad_questions_are_refused(over, low, high, words):
    with pytest.raises(InputError, match=words):
        crossovers(sides(), over, low, high)
