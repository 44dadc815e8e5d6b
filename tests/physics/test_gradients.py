"""Derivatives of throughput, TPOT, memory and the largest batch against central differences, for
every number of a design.

A design is a tree of numbers; each is moved by a factor. The relaxed model is smooth, so all must
agree. In the exact model ceilings and floors carry a straight-through derivative, so the numbers
that enter one are left out there.
"""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree
from physics_designs import EFFICIENCIES, STRUCTURES, efficiency, h100, resized, structure

from qsopt import Deployment, Workload, dense_twin
from qsopt.physics.evaluate import metrics
from qsopt.spec.layers import MoeFfn
from qsopt.spec.service import Service

STEP = 1e-5
OUTPUTS = ("throughput", "tpot", "memory", "largest batch")

RELAXED = {
    "small": Deployment(
        tensor=1.6, data=1.4, pipeline=1.3, expert=1.5, batch=37.0, dcp=1.4, dispatched=0.0
    ),
    "gathered": Deployment(
        tensor=3.0, data=2.5, pipeline=2.3, expert=4.4, batch=90.0, dcp=1.4, dispatched=0.0
    ),
    "dispatched": Deployment(
        tensor=2.3, data=5.5, pipeline=1.6, expert=7.1, batch=1500.0, dcp=1.4, dispatched=0.7
    ),
    "one token": Deployment(
        tensor=1.2, data=1.1, pipeline=1.1, expert=1.1, batch=1.3, dcp=1.4, dispatched=0.4
    ),
}
EXACT = {
    "gathered": Deployment(
        tensor=2.0, data=3.0, pipeline=3.0, expert=2.0, batch=90.0, dispatched=0.0
    ),
    "dispatched": Deployment(
        tensor=2.0, data=6.0, pipeline=1.0, expert=3.0, batch=1200.0, dispatched=1.0
    ),
}
SOME_SLOW = [
    pytest.param(which, marks=() if which == "rich" else pytest.mark.slow) for which in EFFICIENCIES
]
"""The set in which no term is zero always; the others with the slow tests."""

STEPPED = (
    "layers",
    "experts",
    "dcp",
    "expert_slots",
    "mesh_peers",
    "torus_links",
    "groups",
    "top_groups",
    "tensor",
    "data",
    "pipeline",
    "devices",
    "scale_up_devices",
    "expert",
    "dispatched",
)
"""Fields that enter a ceiling, a floor, a clip at a corner or a kink of the exact model."""


def inputs(name: str, which: str, deployment: Deployment):
    """Every number of a design: model, service and deployment."""
    cluster = resized(h100(27), price_per_hour=2.0)
    workload = Workload(8192.0, tokens_per_step=1.7, encoder_context=700.0)
    tree = (structure(name), Service(cluster, workload, efficiency(which)), deployment)
    return jax.tree.map(jnp.asarray, tree)


def floating(tree):
    return eqx.partition(tree, lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating))


def logs(tree, softness) -> jax.Array:
    """Logarithms of the outputs of a design; memory's largest batch is the real one in the exact
    model.
    """
    found = metrics(*tree, softness=softness)
    return jnp.log(
        jnp.stack([found.throughput, found.tpot, found.memory.total, found.largest_batch])
    )


@cache
def compiled(name: str):
    """Slopes and central differences in the log of each number, of one structure of design."""
    numbers, fixed = floating(inputs(name, "ideal", RELAXED["small"]))
    flat, unravel = ravel_pytree(numbers)

    def moved(factors: jax.Array, base: jax.Array, softness: jax.Array) -> jax.Array:
        return logs(eqx.combine(unravel(base * jnp.exp(factors)), fixed), softness)

    @jax.jit
    def slope(base: jax.Array, softness: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.grad(lambda factors: weights @ moved(factors, base, softness))(
            jnp.zeros(flat.size)
        )

    @jax.jit
    def differences(base: jax.Array, softness: jax.Array) -> jax.Array:
        at = partial(lax.map, partial(moved, base=base, softness=softness))
        rows = STEP * jnp.eye(flat.size)
        return (at(rows) - at(-rows)).T / (2 * STEP)

    return slope, differences


def slopes_of(tree, name: str, softness: float) -> np.ndarray:
    """Derivatives of the log of each output by the log of each number, [outputs, numbers]."""
    base = ravel_pytree(floating(tree)[0])[0]
    return np.array(
        [
            compiled(name)[0](base, jnp.asarray(softness), weights)
            for weights in jnp.eye(len(OUTPUTS))
        ]
    )


def differences_of(tree, name: str, softness: float) -> np.ndarray:
    return np.asarray(compiled(name)[1](ravel_pytree(floating(tree)[0])[0], jnp.asarray(softness)))


def paths(tree) -> list[str]:
    """The name of every number of a design in the order in which it is flattened."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(floating(tree)[0]):
        found += [jax.tree_util.keystr(path)] * leaf.size
    return found


def disagreements(tree, name: str, softness: float, skipped=()) -> list[str]:
    slopes, numeric = slopes_of(tree, name, softness), differences_of(tree, name, softness)
    assert np.isfinite(slopes).all()
    wrong = ~np.isclose(slopes, numeric, rtol=1e-5, atol=3e-9)
    assert (np.abs(numeric) > 1e-4).any(axis=0).sum() > 20
    names = paths(tree)
    return [
        f"d {OUTPUTS[row]} / d {names[column]}: {slopes[row, column]} against "
        f"{numeric[row, column]}"
        for row, column in zip(*np.nonzero(wrong), strict=True)
        if not names[column].endswith(tuple(f".{field}" for field in skipped))
        and not (skipped and row == 3)
    ]


@pytest.mark.parametrize("which", SOME_SLOW)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("gqa", "mla") else pytest.mark.slow)
        for name in STRUCTURES
    ],
)
def test_every_relaxed_derivative(name: str, which: str) -> None:
    for where, deployment in RELAXED.items():
        for softness in (0.05, 0.3):
            found = disagreements(inputs(name, which, deployment), name, softness)
            assert not found, (where, softness, found)


@pytest.mark.parametrize("which", SOME_SLOW)
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_exact_derivative_away_from_kinks(name: str, which: str) -> None:
    for where, deployment in EXACT.items():
        found = disagreements(inputs(name, which, deployment), name, 0.0, STEPPED)
        assert not found, (where, found)


@pytest.mark.parametrize("name", ["mla", "encoder-decoder"])
def test_derivative_in_q_through_the_relaxed_twin(name: str) -> None:
    """d log of every output / d log q, and / d log of the MoE's own sizes, which move the twin's
    width.
    """
    _, service, deployment = inputs(name, "rich", RELAXED["gathered"])
    moe = structure(name)

    @jax.jit
    def outputs(z: jax.Array) -> jax.Array:
        kind = moe.decoder.ffn[-1].kind
        assert isinstance(kind, MoeFfn)
        sizes = (
            kind.experts * jnp.exp(z[1]),
            kind.width * jnp.exp(z[2]),
            kind.top_k * jnp.exp(z[3]),
        )
        changed = eqx.tree_at(
            lambda m: tuple(
                getattr(m.decoder.ffn[-1].kind, f) for f in ("experts", "width", "top_k")
            ),
            moe,
            sizes,
        )
        twin = dense_twin(changed, 2.5 * jnp.exp(z[0]), exact=False)
        return logs((twin, service, deployment), jnp.asarray(0.1))

    slopes = jax.jit(jax.jacrev(outputs))(jnp.zeros(4))
    rows = STEP * np.eye(4)
    numeric = np.stack(
        [(outputs(jnp.asarray(row)) - outputs(jnp.asarray(-row))) / (2 * STEP) for row in rows],
        axis=1,
    )
    np.testing.assert_allclose(slopes, numeric, rtol=1e-5, atol=1e-9)
    assert float(slopes[0, 0]) < -0.01  # a larger dense model is slower
    assert float(slopes[2, 0]) > 1e-3  # and holds more


LATENCIES = (".launch", ".collective", ".step", ".host", ".host_layer")


@pytest.mark.parametrize("which", EFFICIENCIES)
def test_elasticities_of_all_rates_and_latencies_sum_to_one(which: str) -> None:
    """Throughput is one over a time: doubling every rate and halving every latency doubles it."""
    tree = inputs("mla", which, RELAXED["dispatched"])
    slopes = slopes_of(tree, "mla", 0.1)
    names = paths(tree)
    rates = [
        i
        for i, name in enumerate(names)
        if name.endswith((".peak_flops", ".scale_up_bandwidth", ".scale_out_bandwidth"))
    ]
    rates += [i for i, name in enumerate(names) if name == "[1].cluster.accelerator.bandwidth"]
    latencies = [i for i, name in enumerate(names) if name.endswith(LATENCIES)]
    assert len(rates) == 4 + 3
    assert float(
        slopes[0, np.array(rates)].sum() - slopes[0, np.array(latencies)].sum()
    ) == pytest.approx(1.0, rel=1e-10)


def test_straight_through_derivatives_are_those_of_the_relaxed_model() -> None:
    """Stages divide the layers here and fill whole domains, and replicas fill the cluster, so both
    models are one but for the derivative.
    """
    base = inputs(
        "gqa", "fitted", Deployment(tensor=2.0, data=4.0, pipeline=3.0, expert=2.0, batch=90.0)
    )
    tree = eqx.tree_at(lambda t: t[1].cluster.devices, base, jnp.asarray(48.0))

    names = paths(tree)
    moved = [names.index("[2].pipeline"), names.index("[1].cluster.devices")]
    hard, soft = (slopes_of(tree, "gqa", softness)[0, moved] for softness in (0.0, 1e-6))
    assert hard[0] == pytest.approx(soft[0], rel=1e-3)
    assert hard[1] == pytest.approx(1.0, rel=1e-8)
    assert soft[1] == pytest.approx(1.0, rel=1e-8)
