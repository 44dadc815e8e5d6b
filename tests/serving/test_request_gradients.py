"""Derivatives of request throughput, time per token and time to first token against central
differences, for every number of model, service, draft and plan, in every way of serving.
"""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree
from serving_designs import deployment, served

from qsopt.serving.metrics import request_metrics
from qsopt.serving.plan import Plan

STEP = 1e-5
OUTPUTS = ("throughput", "tpot", "ttft")
WORKLOAD = {"prompt": 5000.0, "cached": 0.3, "load": 0.5, "acceptance": 0.8, "tokens_per_step": 2.5}

WRITES = deployment(tensor=1.7, data=1.4, pipeline=1.3, expert=1.6, batch=90.0, dcp=1.2)
READS = deployment(tensor=1.4, data=1.3, pipeline=1.2, expert=1.3)
PLANS = {
    "mixed": Plan(WRITES, WRITES, 1900.0),
    "alternating": Plan(WRITES, WRITES, 5000.0),
    "disaggregated": Plan(WRITES, READS, 2500.0, 1.2),
}


def inputs(model: str, way: str):
    """Every number of a question and its plan."""
    question = served(model, "rich", "16xh100", drafts=True, softness=0.1, **WORKLOAD)
    return jax.tree.map(jnp.asarray, (question, PLANS[way]))


def floating(tree):
    return eqx.partition(tree, lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating))


@cache
def compiled(model: str, way: str):
    """Slopes and central differences in the log of each number."""
    numbers, fixed = floating(inputs(model, way))
    flat, unravel = ravel_pytree(numbers)

    def moved(factors: jax.Array) -> jax.Array:
        question, plan = eqx.combine(unravel(flat * jnp.exp(factors)), fixed)
        reached = request_metrics(question, plan, way)
        return jnp.log(jnp.stack([getattr(reached, name) for name in OUTPUTS]))

    rows = STEP * jnp.eye(flat.size)
    at = jax.jit(partial(lax.map, moved, batch_size=64))
    numeric = (at(rows) - at(-rows)).T / (2 * STEP)
    slopes = jax.jit(jax.jacrev(moved))(jnp.zeros(flat.size))
    return np.asarray(slopes), np.asarray(numeric)


def paths(model: str, way: str) -> list[str]:
    """The name of every number in the order in which it is flattened."""
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(floating(inputs(model, way))[0]):
        names += [jax.tree_util.keystr(path)] * leaf.size
    return names


@pytest.mark.parametrize("way", PLANS)
@pytest.mark.parametrize("model", ["gqa", "mla"])
def test_every_derivative_of_a_request(model: str, way: str) -> None:
    slopes, numeric = compiled(model, way)
    assert np.isfinite(slopes).all()
    names = paths(model, way)
    # the softness of the relaxed model is no input of it: its derivative is not defined
    wrong = ~np.isclose(slopes, numeric, rtol=1e-5, atol=3e-9)
    assert (np.abs(numeric) > 1e-4).any(axis=0).sum() > 30
    assert not [
        f"d {OUTPUTS[row]} / d {names[column]}: {slopes[row, column]} against "
        f"{numeric[row, column]}"
        for row, column in zip(*np.nonzero(wrong), strict=True)
        if not names[column].endswith("[0].softness")
    ]


@pytest.mark.parametrize("way", PLANS)
def test_signs_of_what_a_user_can_change(way: str) -> None:
    """Longer prompts cost throughput, and a cached share gives it back."""
    slopes, _ = compiled("gqa", way)
    names = paths("gqa", way)
    throughput = dict(zip(names, slopes[0], strict=True))
    workload = "[0].service.workload"
    assert throughput[f"{workload}.prompt"] < -0.01
    assert throughput[f"{workload}.cached"] > 1e-3
    assert throughput[f"{workload}.acceptance"] > 0.01
    assert throughput["[0].service.cluster.accelerator.bandwidth"] > 0.01
