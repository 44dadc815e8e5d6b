"""Derivatives of what requests are served: of every way in every input, along the limit that binds,
and over many mixes of requests at once.
"""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serving_designs import deployment, served

from qsopt import Workload
from qsopt.serving.metrics import request_metrics
from qsopt.serving.plan import WAYS, Plan, in_one_pool
from qsopt.serving.replica import Served
from qsopt.slopes.requests import (
    RequestDesign,
    at_batch,
    limit_batches,
    log_outputs,
    request_design,
    request_inputs,
    request_sensitivity,
    scaled,
)

ASKED = {
    "cached": 0.3,
    "load": 0.4,
    "tokens_per_step": 3.0,
    "acceptance": 0.7,
    "ttft_limit": 5.0,
    "tpot_limit": 0.5,
}
EVERY = ["mixed"] + [
    pytest.param(way, marks=pytest.mark.slow) for way in ("decode", "alternating", "disaggregated")
]
outputs = jax.jit(log_outputs)


def plan(way: str) -> Plan:
    writes = deployment(tensor=2.0, data=2.0, pipeline=1.0, expert=2.0, batch=96.0)
    if way != "disaggregated":
        return jax.tree.map(jnp.asarray, in_one_pool(writes, 3000.0))
    return jax.tree.map(jnp.asarray, Plan(writes, deployment(tensor=2.0, data=2.0), 4000.0, 2.0))


@cache
def asked(which: str = "rich", model: str = "mla") -> Served:
    return served(model, which, "8xh100", True, 0.0, **ASKED)


def numbers_of(tree) -> list:
    """Places of all numbers that are not zero, not huge, and that a whole number is not made of."""
    return [place for place, leaf in enumerate(jax.tree.leaves(tree)) if _moves(leaf)]


def _moves(leaf) -> bool:
    value = np.asarray(leaf)
    real = value.ndim == 0 and np.issubdtype(value.dtype, np.floating)
    return real and 0 < abs(float(value)) < 1e14


@pytest.mark.parametrize("way", EVERY)
def test_every_input_has_the_slope_of_central_differences(way: str) -> None:
    """Of throughput, time to first token and time per token, by every number of model, cluster,
    workload, efficiencies, draft, layouts and chunk.
    """
    found, given = asked(), plan(way)
    leaves, structure = jax.tree.flatten((found, given))
    places = numbers_of((found, given))
    values = jnp.stack([leaves[place] for place in places])

    def of(factors):
        moved = list(leaves)
        for index, place in enumerate(places):
            moved[place] = values[index] * factors[index]
        one, other = jax.tree.unflatten(structure, moved)
        reached = request_metrics(one, other, way)
        first = 1.0 if way == "decode" else reached.ttft
        return jnp.log(jnp.stack([reached.throughput, first, reached.tpot]))

    ones, step = jnp.ones(len(places)), 1e-5
    exact = np.asarray(jax.jit(jax.jacfwd(of))(ones))
    sides = jax.jit(jax.vmap(of))
    up, down = (np.asarray(sides(1.0 + sign * step * jnp.eye(len(places)))) for sign in (1, -1))
    straight = np.asarray(of(ones))
    estimate = (up - down).T / (2.0 * step)
    # a whole number (of replicas, forwards, layers of a stage, experts of a rank) that is about to
    # turn has a slope on one side and a jump on the other
    smooth = 1e-3 * step > np.abs(up + down - 2.0 * straight).T
    assert np.isfinite(exact).all()
    assert smooth.mean() > 0.9
    off = smooth & ~np.isclose(exact, estimate, rtol=2e-4, atol=2e-6)
    names = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path((found, given))
    ]
    counted = {
        names[places[index]]: exact[1, index] - estimate[1, index] for index in off.nonzero()[1]
    }
    assert not off[[0, 2]].any()
    assert_is_of_whole_forwards(counted)
    assert (np.abs(exact[0]) > 1e-6).sum() > 60


def assert_is_of_whole_forwards(more: dict[str, float]) -> None:
    """A prompt is read in a whole number of forwards, whose slope is that of the real number,
    prompt (1 - cached) / chunk, which differences do not see.
    """
    own = {"prompt": 1.0, "cached": -ASKED["cached"] / (1.0 - ASKED["cached"]), "tokens": -1.0}
    for name, slope in more.items():
        of_one = more["[0].service.workload.prompt"]
        np.testing.assert_allclose(slope, of_one * own[name.rsplit(".")[-1]], rtol=1e-3)


@pytest.mark.parametrize("way", EVERY)
def test_slopes_are_finite_in_single_precision(way: str) -> None:
    with jax.enable_x64(False):
        single = jax.tree.map(
            lambda x: (
                jnp.asarray(np.asarray(x), dtype=jnp.float32)
                if np.issubdtype(np.asarray(x).dtype, np.floating)
                else jnp.asarray(np.asarray(x))
            ),
            (asked("fitted"), plan(way)),
        )

        def of(both):
            served, given = both
            reached = request_metrics(served, given, way)
            return jnp.log(reached.throughput) + reached.ttft + jnp.log(reached.tpot)

        slopes = jax.grad(of, allow_int=True)(single)
        for leaf in jax.tree.leaves(slopes):
            if np.issubdtype(np.asarray(leaf).dtype, np.floating):
                assert np.isfinite(np.asarray(leaf)).all()


def test_a_hundred_thousand_mixes_are_those_one_by_one() -> None:
    found, given, count = asked("fitted", "gqa"), plan("mixed"), 100_000
    generator = np.random.default_rng(0)
    mixes = np.stack(
        [
            np.exp(generator.uniform(np.log(64), np.log(1e5), count)),
            np.exp(generator.uniform(np.log(16), np.log(1e4), count)),
            generator.uniform(0.0, 0.95, count),
        ]
    )

    def of(mix):
        prompt, answer, cached = mix
        work = Workload(prompt=prompt, answer=answer, cached=cached)
        moved = eqx.tree_at(lambda s: s.service.workload, found, work)
        reached = request_metrics(moved, given, "mixed")
        return jnp.stack([reached.throughput, reached.ttft, reached.tpot])

    def chunked(rows):
        return jax.lax.map(of, rows, batch_size=4096)

    every = np.asarray(jax.jit(chunked)(jnp.asarray(mixes.T)))
    assert every.shape == (count, 3)
    assert np.isfinite(every).all()
    alone = jax.jit(of)
    for place in (0, 4095, 4096, 77_777, count - 1):
        np.testing.assert_allclose(every[place], np.asarray(alone(mixes[:, place])), rtol=1e-9)


# ---- along the limit that binds ------------------------------------------------------------------

BOUND = {
    "memory": ("mixed", {"cached": 0.9}),
    "tpot": ("alternating", {"tpot_limit": 0.02}),
    "ttft": ("mixed", {"cached": 0.9, "ttft_limit": 0.02}),
    "tpot of two pools": ("disaggregated", {"tpot_limit": 0.01}),
}


def design(way: str, **changes: float) -> RequestDesign:
    found = served("mla", "fitted", "8xh100", False, 0.0, **{"cached": 0.2, **changes})
    return jax.tree.map(np.asarray, request_design(found, plan(way), way))


def relaxed_throughput(moved: RequestDesign) -> float:
    """The log of what a plan serves at its largest real batch."""
    real = replace(moved, real=moved.way == "disaggregated")
    batch = min(limit_batches(real).values())
    return float(outputs(at_batch(real, batch))[0])


@pytest.mark.parametrize("case", BOUND)
def test_slopes_along_a_limit_are_those_of_optimising_anew(case: str) -> None:
    """Steps of 2 %, which move the batch."""
    way, changes = BOUND[case]
    given = design(way, **changes)
    found = request_sensitivity(given)
    assert found.binding == case.split(maxsplit=1)[0]
    assert found.relaxed is not None
    inputs = request_inputs(given)
    step = 0.02
    for index, each in enumerate(inputs):
        if each.name not in (
            "prompt",
            "answer",
            "uncached",
            "bandwidth",
            "capacity",
            "tpot_limit",
            "ttft_limit",
            "scale_up_bandwidth",
        ):
            continue
        ends = []
        for sign in (1.0, -1.0):
            logs = np.zeros(len(inputs) + 1)
            logs[index] = sign * step
            ends.append(relaxed_throughput(scaled(given, inputs, jnp.asarray(logs))))
        estimate = (ends[0] - ends[1]) / (2.0 * step)
        exact = found.relaxed.elasticity[each.name]
        assert exact == pytest.approx(estimate, rel=0.02, abs=2e-3), each.name


def test_prices_are_of_the_limit_that_binds() -> None:
    way, changes = BOUND["tpot"]
    found = request_sensitivity(design(way, **changes))
    prices = {price.constraint: price for price in found.shadow_prices}
    assert prices["tpot"].active
    assert not prices["memory"].active
    assert prices["memory"].multiplier == 0.0
    assert found.relaxed is not None
    assert prices["tpot"].multiplier == pytest.approx(found.relaxed.gradient["tpot_limit"] * 1e-3)
    assert prices["cached"].multiplier == pytest.approx(found.relaxed.gradient["cached"] * 0.01)
    assert prices["cached"].multiplier > 0.0


def test_ways_are_all_asked() -> None:
    assert set(WAYS) == {"decode", "mixed", "alternating", "disaggregated"}
