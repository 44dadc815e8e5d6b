"""Laws that hold for every design, model, cluster and workload, in float64 and in float32: numbers
are finite and positive, derivatives are finite, and more of what helps never hurts.
"""

from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt.physics.evaluate import metrics
from qsopt.spec.service import Service

DRAWS = 256
"""Designs of one test, evaluated together."""

PRECISIONS = ("float32", "float64")

BOTH = ["float32", pytest.param("float64", marks=pytest.mark.slow)]
"""As `tests/physics/test_no_nan.py` is quick in float64."""

README = qsopt.Deployment(tensor=4, data=2, expert=8, batch=256)

STRUCTURES = [
    "mixtral-8x7b",
    pytest.param("deepseek-v3", marks=pytest.mark.slow),
    pytest.param("qwen3-next-80b-a3b", marks=pytest.mark.slow),
]

SIZES = ("tensor", "data", "pipeline", "expert", "batch")

SCALED = {
    "bandwidth": lambda t: t[1].cluster.accelerator.bandwidth,
    "peak": lambda t: t[1].cluster.accelerator.peak_flops,
    "memory": lambda t: t[1].cluster.accelerator.memory_bytes,
    "scale-up": lambda t: t[1].cluster.accelerator.scale_up_bandwidth,
    "scale-out": lambda t: t[1].cluster.accelerator.scale_out_bandwidth,
    "context": lambda t: t[1].workload.context,
    "hidden": lambda t: t[0].hidden,
    "vocabulary": lambda t: t[0].vocabulary,
}
"""Numbers that move by a factor."""

HELPS = ("bandwidth", "peak", "scale-up", "scale-out")
"""More of them is never slower."""


@cache
def question(name: str) -> Any:
    """A model, a service and a layout, by NumPy numbers."""
    cluster = qsopt.load_cluster("1024xh100")  # as many as the largest replica
    service = Service(cluster, qsopt.Workload(8192.0), qsopt.load_efficiency("fitted"))
    return qsopt.load_model(name), service, README


@cache
def compiled(name: str, precision: str) -> Any:
    """Values and whether every derivative of them is finite, of a batch of questions."""
    numbers, fixed = eqx.partition(question(name), eqx.is_inexact_array_like)

    def values(numbers: Any) -> Any:
        found = metrics(*eqx.combine(numbers, fixed))
        return jnp.stack([found.tpot, found.throughput, found.memory.total])

    def one(numbers: Any, sizes: Any, factors: Any) -> Any:
        changed = eqx.tree_at(lambda t: [getattr(t[2], size) for size in SIZES], numbers, [*sizes])
        for where, factor in zip(SCALED.values(), factors, strict=True):
            changed = eqx.tree_at(where, changed, where(changed) * factor)
        slopes = jax.grad(lambda at: jnp.sum(jnp.log(values(at))))(changed)
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)]
        return values(changed), jnp.stack(finite)

    batched = jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))
    kind = np.dtype(precision)
    own = jax.tree.map(lambda leaf: np.array(leaf, kind), numbers)
    paths = jax.tree_util.tree_leaves_with_path(numbers)
    names = [jax.tree_util.keystr(path) for path, _ in paths]

    def run(sizes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
        with jax.enable_x64(precision == "float64"):
            found, finite = batched(own, sizes.astype(kind), factors.astype(kind))
            return np.asarray(found), np.asarray(finite), names

    return run


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Layouts, the first of them that of the README, and factors."""
    random = np.random.default_rng(seed)
    ranks = 2.0 ** random.integers(0, 4, (DRAWS, 3))
    expert = np.minimum(2.0 ** random.integers(0, 4, DRAWS), ranks[:, 0] * ranks[:, 1])
    batch = ranks[:, 1] * ranks[:, 2] * random.integers(1, 512, DRAWS)
    sizes = np.column_stack([ranks, expert, batch])
    sizes[0] = [float(getattr(README, size)) for size in SIZES]
    factors = np.exp(random.uniform(-3.0, 3.0, (DRAWS, len(SCALED))))
    factors[0] = 1.0
    return sizes, factors


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("name", STRUCTURES)
def test_numbers_are_finite_and_positive_and_so_are_derivatives(name: str, precision: str) -> None:
    found, finite, names = compiled(name, precision)(*drawn(0))
    assert np.isfinite(found).all()
    assert (found > 0.0).all()
    wrong = [names[leaf] for leaf in np.flatnonzero(~finite.all(axis=0))]
    assert wrong == [], "derivatives that are not finite"


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("name", STRUCTURES)
def test_more_of_what_helps_never_hurts(name: str, precision: str) -> None:
    run = compiled(name, precision)
    sizes, factors = drawn(1)
    tolerance = 1e-5 if precision == "float32" else 1e-12
    before = run(sizes, factors)[0]
    for place, which in enumerate(SCALED):
        more = factors.copy()
        more[:, place] *= 1.5
        tpot, _, memory = (run(sizes, more)[0] / before).T
        if which in HELPS:
            assert (tpot <= 1.0 + tolerance).all(), f"more {which} is slower"
            np.testing.assert_allclose(memory, 1.0, rtol=tolerance)
        if which in ("context", "hidden", "vocabulary"):
            assert (tpot >= 1.0 - tolerance).all(), f"more {which} is quicker"
            assert (memory >= 1.0 - tolerance).all(), f"more {which} needs less memory"


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_both_precisions_say_the_same(name: str) -> None:
    sizes, factors = drawn(2)
    one, other = (compiled(name, precision)(sizes, factors)[0] for precision in PRECISIONS)
    np.testing.assert_allclose(one, other, rtol=2e-4)
