"""The best layout under a limit on the time per token, against enumeration of every batch."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt.comparison.twin import aligned
from qsopt.deployments import contest as contests
from qsopt.deployments.batches import length, pad_to, repeat, take
from qsopt.deployments.best import EQUAL
from qsopt.deployments.contest import CLOSE, TIED, Entry, Standing, contest, qualified
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import at_batches, entry_of, searched
from qsopt.physics.evaluate import TOLERANCE, compiled_metrics, timing
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

# ---- made-up layouts -----------------------------------------------------------------------------

COUNT, MOST = 150, 400


def made_up(seed: int, limit: float) -> tuple[Entry, np.ndarray]:
    """Layouts of which neither the time nor the throughput falls with the batch, some of them
    equal, some out, and their times per token at every number of units.
    """
    random = np.random.default_rng(seed)
    unit = 2.0 ** random.integers(0, 5, COUNT)
    most = np.minimum(np.floor(10.0 ** random.uniform(-0.5, 2.6, COUNT)), MOST)
    replicas = random.integers(1, 5, COUNT).astype(float)
    fixed, slope = 10.0 ** random.uniform(-3, -1, COUNT), 10.0 ** random.uniform(-5, -3, COUNT)
    bent = random.uniform(0.3, 1.0, COUNT)
    for column in (unit, most, replicas, fixed, slope, bent):
        column[100:130] = column[70:100]  # ties
    units = np.arange(1.0, MOST + 1)
    batches = units * unit[:, None]
    steps = np.floor(batches / 64.0) * slope[:, None] * 20.0  # kernels that jump
    times = fixed[:, None] + slope[:, None] * batches ** bent[:, None] + steps
    times = np.minimum.accumulate(times / batches, axis=1) * batches  # throughput never falls
    times = np.maximum.accumulate(times, axis=1)
    assert (np.diff(batches / times, axis=1) >= -1e-9).all()
    entry = Entry(*map(jnp.asarray, (most, unit, replicas, np.full(COUNT, limit), np.ones(COUNT))))
    return entry, times


def enumerated(entry: Entry, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest number of units that is allowed, and the throughput there, of each layout."""
    units = np.arange(1.0, times.shape[1] + 1)
    limit = np.asarray(entry.limit)[:, None] * (1.0 + TOLERANCE)
    allowed = (times <= limit) & (units <= np.asarray(entry.most)[:, None])
    allowed &= units >= np.asarray(entry.least)[:, None]
    largest = np.max(np.where(allowed, units, 0.0), axis=1)
    rate = np.asarray(entry.replicas * entry.unit)[:, None] * units / times
    return largest, np.max(np.where(units == largest[:, None], rate, 0.0), axis=1)


def evaluation(entry: Entry, times: np.ndarray):
    """As `contest` asks for it."""

    def evaluate(places, batches):
        units = jnp.round(batches / entry.unit[places]).astype(int)
        time = jnp.asarray(times)[places, units - 1]
        return entry.replicas[places] * batches / time, time

    return evaluate


@partial(jax.jit, static_argnames=("limit", "seed"))
def contested(seed: int, limit: float, promise, best, near) -> Standing:
    entry, times = made_up(seed, limit)
    return contest(entry, evaluation(entry, times), promise, best, near)


@pytest.mark.parametrize("limit", [1e15, 1.0, 0.1, 0.02, 0.004, 1e-4])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_contest_is_won_by_the_best_of_all_batches(seed: int, limit: float) -> None:
    entry, times = made_up(seed, limit)
    largest, rates = enumerated(entry, times)
    promise = np.random.default_rng(seed).normal(size=COUNT)
    for near in (0.0, CLOSE, TIED):
        found = contested(seed, limit, promise, 0.0, near)
        wanted = rates >= near * rates.max()
        np.testing.assert_array_equal(np.asarray(found.units)[wanted], largest[wanted])
        np.testing.assert_allclose(np.asarray(found.throughput)[wanted], rates[wanted], rtol=1e-12)
        assert (np.asarray(found.throughput) <= rates * (1.0 + 1e-12)).all()
        assert (np.asarray(found.at_most) >= rates * (1.0 - 1e-12)).all()
        assert np.isfinite(found.at_most).all()
    ahead = contested(seed, limit, promise, rates.max() * 1.01 + 1.0, TIED)
    assert float(ahead.throughput.max()) <= rates.max()


@partial(jax.jit, static_argnames=("seed", "limit"))
def qualifying(seed: int, limit: float, goals, to_the_end) -> Standing:
    entry, times = made_up(seed, limit)
    entry = eqx.tree_at(lambda e: e.least, entry, 1.0 + jnp.arange(float(COUNT)) % 3.0)
    return qualified(entry, evaluation(entry, times), goals, to_the_end, 32)


@pytest.mark.parametrize("limit", [1e15, 0.02, 1e-4])
def test_layouts_with_goals_of_their_own_reach_them_or_are_out(limit: float) -> None:
    entry, times = made_up(2, limit)
    entry = eqx.tree_at(lambda e: e.least, entry, 1.0 + jnp.arange(float(COUNT)) % 3.0)
    largest, rates = enumerated(entry, times)
    goals = rates * np.random.default_rng(3).choice([0.0, 0.7, 1.0 - 1e-9, 1.3], COUNT)
    wanted = rates >= goals
    found = qualifying(2, limit, goals, True)
    np.testing.assert_array_equal(np.asarray(found.units)[wanted], largest[wanted])
    once = qualifying(2, limit, goals, False)
    for state in (found, once):
        assert (np.asarray(state.at_most) >= rates * (1.0 - 1e-12)).all()
    assert np.isfinite(found.at_most).all()
    undecided = np.isinf(once.at_most)  # what they need is allowed, but for rounding to units
    assert undecided.any() == (limit == 0.02)
    assert (goals[undecided] > 0.0).all() and (wanted | ~undecided).mean() > 0.9


def test_few_evaluations_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the best is known the others take one evaluation each: where their order is right no
    more than a few groups are looked at more often.
    """
    entry, times = made_up(1, 0.02)
    rates = enumerated(entry, times)[1]
    monkeypatch.setattr(contests, "AT_ONCE", 16)
    looks: list[int] = []

    def evaluate(places, batches):
        jax.debug.callback(lambda: looks.append(1))
        return evaluation(entry, times)(places, batches)

    counts = []
    for near in (TIED, 0.0):
        looks.clear()
        jax.block_until_ready(contest(entry, evaluate, jnp.asarray(rates), 0.0, near).table)
        jax.effects_barrier()
        counts.append(len(looks))
    assert counts[0] <= COUNT / 16 + 10
    assert counts[1] > 1.5 * counts[0]


# ---- models --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixtral() -> Model:
    model = qsopt.load_model("mixtral-8x7b")
    return aligned(model, model)


def on_four(limit: float | None) -> Service:
    """Four devices with room for some 200 sequences."""
    limits = {} if limit is None else {"tpot_limit": limit}
    workload = qsopt.Workload(8192.0, **limits)
    return Service(qsopt.load_cluster("4xh100"), workload, qsopt.load_efficiency("fitted"))


@jax.jit
def all_batches(model: Model, service: Service, layouts: Deployment, units: jax.Array):
    """Times of every layout at every number of units, and what bounds these."""
    entry = jax.vmap(lambda layout: entry_of(model, service, layout))(layouts)

    def times(layout: Deployment) -> jax.Array:
        designs = at_batches(
            jax.tree.map(lambda leaf: jnp.full(len(units), leaf), layout),
            units * layout.pipeline * layout.data,
        )
        return jax.vmap(lambda design: timing(model, service, design).tpot)(designs)

    return entry, jax.vmap(times)(layouts)


@pytest.mark.parametrize("limit", [None, 0.04, 0.012, 1e-4])
def test_layouts_of_a_model_equal_enumeration(mixtral: Model, limit: float | None) -> None:
    service = on_four(limit)
    layouts = legal_layouts(mixtral, service.cluster)
    entry, times = all_batches(mixtral, service.priced, layouts, np.arange(1.0, 401.0))
    assert float(entry.most.max()) < 400
    rates = np.asarray(entry.replicas * entry.unit)[:, None] * np.arange(1.0, 401.0) / times
    assert (np.diff(times, axis=1) >= 0.0).all()  # what the search rests on
    assert (np.diff(rates, axis=1) >= -1e-9 * rates[:, 1:]).all()
    largest, reached = enumerated(entry, np.asarray(times))
    winner = int(np.argmax(reached >= reached.max() * (1.0 - EQUAL)))
    filled = pad_to(layouts, 64)
    for near in (0.0, CLOSE, TIED):
        found = searched(repeat(mixtral, 1), service, filled, near=near)
        best, wanted = take(found.best, 0), reached >= near * reached.max()
        count = length(layouts)
        throughputs = np.asarray(found.throughputs)[0]
        np.testing.assert_allclose(throughputs[:count][wanted], reached[wanted], rtol=1e-12)
        assert (throughputs[:count] >= reached * (1.0 - 1e-12)).all()
        assert (throughputs[count:] == 0.0).all()  # what only fills the list up
        assert bool(best.feasible) == (reached.max() > 0.0)
        expected = at_batches(layouts, jnp.maximum(largest, 1.0) * entry.unit)
        for one, other in zip(
            jax.tree.leaves(best.deployment), jax.tree.leaves(take(expected, winner)), strict=True
        ):
            assert float(one) == float(other)
    if reached.max() > 0.0:
        metrics = compiled_metrics(mixtral, service.priced, take(expected, winner))
        assert float(metrics.throughput) == pytest.approx(reached.max(), rel=1e-12)
        assert bool(metrics.feasible)


def test_single_precision_finds_the_same(mixtral: Model) -> None:
    service = on_four(0.02)
    layouts = legal_layouts(mixtral, service.cluster)
    exact = take(searched(repeat(mixtral, 1), service, layouts, near=TIED).best, 0)
    with jax.enable_x64(False):
        single = take(searched(repeat(mixtral, 1), service, layouts, near=TIED).best, 0)
    assert float(single.throughput) == pytest.approx(float(exact.throughput), rel=1e-3)
