"""The best way of serving against brute force: every layout, batch, chunk and split."""

from functools import cache
from operator import itemgetter

import equinox as eqx
import jax
import numpy as np
import pytest
from serving_designs import cluster, efficiency, structure, with_reserve, workload

from qsopt import InputError, Workload
from qsopt.deployments.batches import chunks, in_numpy, repeat
from qsopt.serving.candidates import (
    CHUNKS,
    LARGEST,
    UNIFORM,
    candidates,
    chunk_lengths,
)
from qsopt.serving.metrics import request_metrics
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.trial import layout_at, tokens_of
from qsopt.serving.ways import SEARCHED, asked, best_ways, best_ways_of_each, layouts_of, lists
from qsopt.spec.rules import PLAIN
from qsopt.spec.service import Service

MOST = 16
"""Batch units that fit in these tests' memory, or fewer."""

CASES = {
    "no limit": {},
    "token in time": {"tpot_limit": 1.1e-3},
    "first token in time": {"ttft_limit": 1e-2},
    "both": {"tpot_limit": 1.15e-3, "ttft_limit": 1.55e-2},
    "queue": {"load": 0.6},
    "cached": {"cached": 0.9, "ttft_limit": 4e-3},
    "short": {"prompt": 9000.0, "answer": 17000.0},
    "impossible": {"ttft_limit": 1e-6},
}


def service(which: str = "kernels", devices: int = 4, **changes: float) -> Service:
    """A few devices of little memory."""
    small = eqx.tree_at(
        lambda c: c.accelerator.memory_bytes, cluster(f"{devices}xh100"), np.asarray(2.15e9)
    )
    lean = with_reserve(efficiency(which), 1e9)
    asked = {"prompt": 16384.0, "answer": 2000.0, **changes}
    return Service(small, workload(**asked), lean, PLAIN)


def evaluated(served: Served, plans: Plan, way: str):
    """Throughput of plans, 0 where a limit is broken."""
    parts = []
    with np.errstate(all="ignore"):
        for part in chunks(in_numpy(plans), 8192):
            reached = request_metrics(served, part, way)
            parts.append(np.where(reached.feasible, reached.throughput, 0.0))
    return np.concatenate(parts)


def limited(name: str, value: float) -> Service:
    """With one limit."""
    changes = {name: value}
    return service("kernels", 4, **changes)


def rows_at(tree, rows):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)


def forced(served: Served, way: str) -> float:
    """The best throughput of a way by trying everything."""
    layouts = layouts_of(served.model, served.service)
    every = candidates(layouts, (way,))
    units = np.arange(1.0, MOST + 1.0)
    size, count = len(units), len(every.kind)
    wide = rows_at(every, np.repeat(np.arange(count), size))
    units = np.tile(units, count)
    layout = layout_at(wide, units)
    tokens = tokens_of(served, wide, layout)
    if way != "disaggregated":
        plans = Plan(layout, layout, tokens, np.ones(len(units)))
        return float(np.max(evaluated(served, plans, way)))
    writes = np.flatnonzero(wide.kind == 3)
    reads = np.flatnonzero((wide.kind == 4) & (units == 1.0))
    one, other = (index.reshape(-1) for index in np.meshgrid(reads, writes))
    plans = Plan(
        rows_at(layout, other),
        rows_at(layout, one),
        np.asarray(tokens)[one],
        np.asarray(wide.sharing)[one],
    )
    return float(np.max(evaluated(served, plans, way)))


@cache
def found(model: str, case: str):
    return best_ways(structure(model), service(**CASES[case]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", ["gqa", pytest.param("dense", marks=pytest.mark.slow)])
def test_best_of_every_way_is_that_of_brute_force(model: str, case: str) -> None:
    given = asked(structure(model), service(**CASES[case]))
    best = found(model, case)
    for way in SEARCHED:
        expected = forced(given, way)
        reached = getattr(best, way)
        if case == "first token in time" and way == "mixed":
            # a uniform step's time to first token is not monotone in the batch
            assert float(reached.throughput) >= expected * (1 - 1e-9) * 0.98
        else:
            assert float(reached.throughput) == pytest.approx(expected, rel=1e-9), way
        assert bool(reached.feasible) == (expected > 0)


@pytest.mark.parametrize("case", CASES)
def test_plans_reach_what_they_promise(case: str) -> None:
    given = asked(structure("gqa"), service(**CASES[case]))
    for way in SEARCHED:
        best = getattr(found("gqa", case), way)
        if bool(best.feasible):
            reached = evaluated(given, jax.tree.map(lambda x: np.asarray(x)[None], best.plan), way)
            assert float(reached[0]) == pytest.approx(float(best.throughput), rel=1e-9)


def test_batches_are_between_one_and_what_the_brute_force_tries() -> None:
    """Or the comparison above would say little."""
    sizes = set()
    for case in CASES:
        best = found("gqa", case)
        for way in SEARCHED:
            one = getattr(best, way)
            if bool(one.feasible):
                layout = one.plan.decode
                sizes.add(float(layout.batch / (layout.data * layout.pipeline)))
        assert bool(best.feasible) == (case != "impossible"), case
    assert max(sizes) < MOST
    assert len(sizes) > 4


@pytest.mark.parametrize("limit", ["ttft_limit", "tpot_limit"])
def test_looser_limits_serve_no_less(limit: str) -> None:
    reached = []
    for factor in (0.8, 1.0, 1.5, 2.5, 5.0, 1e3):
        base = {"ttft_limit": 5e-3, "tpot_limit": 1.5e-3}[limit]
        best = best_ways(structure("gqa"), limited(limit, factor * base))
        reached.append([float(x) for x in best.throughputs])
    assert np.all(np.diff(np.array(reached, dtype=float), axis=0) >= -1e-9)
    assert max(reached[0]) < max(reached[-1])


def test_cached_prompts_serve_more() -> None:
    reached = [
        float(best_ways(structure("gqa"), service(cached=cached)).throughput)
        for cached in (0.0, 0.5, 0.9)
    ]
    assert reached == sorted(reached)


def test_several_models_at_once_are_one_after_the_other() -> None:
    """One compiled function over a batch of models of one structure."""
    model, asking = structure("gqa"), service()
    wide = eqx.tree_at(lambda m: m.decoder.ffn[0].kind.width, model, np.asarray(700.0))
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), model, wide)
    every, groups = lists(layouts_of(model, asking))
    both = best_ways_of_each(batch, asking, every, groups)
    for place, one in enumerate((model, wide)):
        alone = best_ways(one, asking)
        np.testing.assert_allclose(
            np.asarray(both.throughputs)[place], np.asarray(alone.throughputs), rtol=1e-12
        )
        assert int(np.asarray(both.index)[place]) == int(alone.index)
    assert repeat(model, 2).hidden.shape == (2,)


def test_ways_may_be_left_out() -> None:
    best = best_ways(structure("gqa"), service(), ways=("mixed",))
    assert float(best.mixed.throughput) == float(found("gqa", "no limit").mixed.throughput)
    assert not bool(best.disaggregated.feasible)
    assert best.best()[0] == "mixed"
    with pytest.raises(InputError, match="mixed, alternating, disaggregated"):
        best_ways(structure("gqa"), service(), ways=("decode",))


def test_decode_alone_is_refused() -> None:
    alone = Service(service().cluster, Workload(100.0), service().efficiency)
    with pytest.raises(InputError, match="prompt and an answer"):
        best_ways(structure("gqa"), alone)


@pytest.mark.parametrize("read", [1.0, 37.0, 300.0, 4096.0, 8192.0, 131072.0, 1e6])
def test_chunks_are_halves_and_doubles_of_the_prompt(read: float) -> None:
    lengths = np.asarray(chunk_lengths(np.asarray(read)))
    assert len(lengths) == CHUNKS
    np.testing.assert_allclose(lengths[:-1] / lengths[1:], 2.0)
    assert lengths[0] <= LARGEST
    whole = np.log2(lengths / read)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    assert read > LARGEST or (lengths == read).any()


def test_every_layout_is_a_candidate_in_every_way() -> None:
    layouts = layouts_of(structure("gqa"), service())
    every = candidates(layouts)
    count = layouts.tensor.shape[0]
    assert int(np.sum(every.kind == UNIFORM)) == count
    assert int(np.sum(every.kind == 0)) == CHUNKS * count
    several = int(np.sum(np.asarray(layouts.data) > 1))
    assert int(np.sum(every.kind == 4)) == CHUNKS * (count + several)
    first = jax.tree.map(itemgetter(0), every)
    assert float(layout_at(first, np.asarray(3.0)).batch) == 3.0
