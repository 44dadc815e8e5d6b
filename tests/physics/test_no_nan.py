"""No NaN and no infinity in a value or a derivative, over random legal and near-illegal designs of
several structures.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from physics_designs import STRUCTURES, efficiency, h100, resized, structure

from qsopt import Deployment, Workload, dense_twin
from qsopt.physics.evaluate import metrics
from qsopt.spec.service import Service

BATCH = 48
"""Designs that one example of hypothesis draws, evaluated together."""

SIZES = (1.0, 1.0 + 1e-12, 1.001, 1.5, 2.0, 3.0, 7.0, 8.0, 8.0 + 1e-9, 13.0, 16.0, 64.0, 700.0)
CONTEXTS = (0.0, 1e-6, 1.0, 4096.0, 4096.5, 131072.0, 1e7)
BATCHES = (1e-6, 0.03, 0.5, 1.0, 6.0, 512.0, 1e7)
SOFTNESS = (0.0, 1e-9, 1e-3, 0.05, 0.3, 1.0)
DEVICES = (1.0, 8.0, 16.0, 1000.0)
ROUTING = (
    (1.0, 1.0),
    (2.0, 2.0),
    (8.0, 2.0),
    (8.0, 8.000001),
    (4.0, 9.0),
    (1.0 + 1e-13, 1.0),
    (2048.0, 1e-3),
    (256.0, 8.0),
)
"""Experts and experts used, some of them more than there are."""

WIDTHS = (1e-3, 1.0, 64.0, 4096.0, 1e6)


def routed(model):
    kind = model.decoder.ffn[-1].kind
    return kind.experts, kind.top_k, kind.width


@cache
def compiled(name: str):
    """Values and derivatives by every number of a batch of designs: throughput, TPOT, memory,
    largest batch.
    """
    model = structure(name)
    service = Service(resized(h100(8), price_per_hour=2.0), Workload(1.0), efficiency("rich"))
    tree = (model, service, Deployment())
    numbers, fixed = eqx.partition(
        jax.tree.map(jnp.asarray, tree), lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    )

    def outputs(numbers, softness):
        found = metrics(*eqx.combine(numbers, fixed), softness=softness)
        return jnp.stack([found.throughput, found.tpot, found.memory.total, found.largest_batch])

    def one(design, sizes, context, devices, softness, which, weights):
        changed = eqx.tree_at(
            lambda t: (*routed(t[0]), t[1].cluster.devices, t[1].workload.context, t[2]),
            numbers,
            (*sizes, devices, context, design),
        )
        changed = eqx.tree_at(lambda t: t[1].efficiency, changed, which)
        values, slopes = (
            outputs(changed, softness),
            jax.grad(lambda *at: weights @ outputs(*at), argnums=(0, 1))(changed, softness),
        )
        return values, jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)])

    return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, 0, 0, None, None)))


def draws(number: int):
    """A batch of designs, each field from its list of corners or, half of the time, log-uniform
    between its ends.
    """
    rng = np.random.default_rng(number)

    def some(values) -> jax.Array:
        positive = [value for value in values if value > 0]
        between = np.exp(rng.uniform(np.log(min(positive)), np.log(max(positive)), BATCH))
        return jnp.asarray(np.where(rng.random(BATCH) < 0.6, rng.choice(values, BATCH), between))

    sizes = [some(SIZES) for _ in range(5)]
    ways = jnp.asarray(rng.choice([0.0, 1.0, 0.4], BATCH))
    slots = jnp.asarray(rng.choice([0.0, 8.0, 9.5, 300.0], BATCH))
    tensor, data, pipeline, expert, dcp = sizes
    fields = (tensor, data, pipeline, expert, some(BATCHES), ways, dcp, slots)
    design = jax.tree.unflatten(jax.tree.structure(Deployment()), fields)
    routing = jnp.asarray(rng.permutation(np.resize(ROUTING, (BATCH, 2))))
    experts = (routing[:, 0], routing[:, 1], some(WIDTHS))
    softness = jnp.asarray(rng.choice(SOFTNESS, BATCH))
    return design, experts, some(CONTEXTS), some(DEVICES), softness


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("gqa", "mla") else pytest.mark.slow)
        for name in STRUCTURES
    ],
)
@seed(20261122)
@settings(max_examples=8, deadline=None, database=None)
@given(
    number=st.integers(0, 2**32 - 1),
    which=st.sampled_from(["ideal", "fitted", "rich"]),
    output=st.integers(0, 3),
)
def test_values_and_derivatives_are_finite(name: str, number: int, which: str, output: int) -> None:
    batch = draws(number)
    sets = jax.tree.map(jnp.asarray, efficiency(which))
    values, finite = compiled(name)(*batch, sets, jnp.eye(4)[output])
    assert bool(jnp.isfinite(values).all()), where(batch, ~jnp.isfinite(values).all(axis=1))
    assert bool((values >= 0).all()), where(batch, (values < 0).any(axis=1))
    assert bool(finite.all()), where(batch, ~finite.all(axis=1))


def where(batch, bad) -> str:
    """The first design that went wrong."""
    index = int(jnp.argmax(bad))
    return str(jax.tree.map(lambda leaf: float(leaf[index]), batch))


@pytest.mark.parametrize("name", ["gqa", "encoder-decoder"])
def test_relaxed_twins_of_any_q_are_finite(name: str) -> None:
    """Even a q too small for any feed-forward layer, which only a traced search meets."""

    @jax.jit
    @jax.vmap
    def both(q):
        def log_throughput(q):
            twin = dense_twin(structure(name), q, exact=False)
            return metrics(
                twin,
                Service(h100(8), Workload(8192.0), efficiency("fitted")),
                Deployment(tensor=2, batch=8),
            ).throughput

        return jax.value_and_grad(log_throughput)(q)

    value, slope = both(jnp.geomspace(0.05, 1e3, 30))
    assert bool(jnp.isfinite(value).all())
    assert bool(jnp.isfinite(slope).all())
