"""Elasticities of a comparison against the optimum found anew, at random cases; and that they say
what `sensitivity` says of each side.
"""

from dataclasses import dataclass
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from real_optimum import relaxed_throughput

from qsopt import load_cluster, load_efficiency, load_model
from qsopt.comparison.compare import Comparison, settle
from qsopt.comparison.dense import RELEASED, RELEASED_GQA8, SAME_BODY, MatchKind, dense_match
from qsopt.comparison.duel import Duel, Optima
from qsopt.comparison.slopes import NAMES, ComparisonSlopes, SideSlopes, comparison_slopes
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import take
from qsopt.slopes.inputs import Design, named_inputs, scaled
from qsopt.slopes.sensitivity import at_batch, design_metrics, limit_batches, sensitivity
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT, Workload

MODELS = ("mixtral-8x7b", "qwen3-30b-a3b")
CLUSTERS = ("4xh100", "8xh200")
KINDS = (SAME_BODY, RELEASED, RELEASED_GQA8)
STEP = 0.01
"""Of the log of an input: the real batch moves with it."""
MOVED = ("context", "capacity", "bandwidth", "scale_up_bandwidth", "tpot_limit", "q")
COUNT, QUICK = 30, 3
"""Cases, and those of them that are no slow tests."""


@dataclass(frozen=True)
class Case:
    model: str
    cluster: str
    context: float
    limit: float
    kind: MatchKind
    q: float


def cases() -> list[Case]:
    draw = np.random.default_rng(11)
    return [
        Case(
            str(draw.choice(MODELS)),
            str(draw.choice(CLUSTERS)),
            float(np.exp(draw.uniform(np.log(2048.0), np.log(65536.0)))),
            float(draw.choice([NO_LIMIT, 0.05, 0.02])),
            KINDS[int(draw.integers(3))],
            float(draw.uniform(1.5, 3.5)),
        )
        for _ in range(COUNT)
    ]


@cache
def solved(case: Case) -> tuple[Model, Service, Comparison, Duel, ComparisonSlopes]:
    workload = Workload(context=case.context, tpot_limit=case.limit)
    service = Service(load_cluster(case.cluster), workload, load_efficiency("fitted"))
    model = load_model(case.model)
    result, duel = settle(model, service, jnp.asarray(case.q), case.kind)
    return model, service, result, duel, comparison_slopes(result, duel, service)


def best_log(side: Model, service: Service, layouts: list[Deployment]) -> float:
    """Log throughput of the best of some layouts, each at the real batch that its limits allow."""
    logs = []
    for layout in layouts:
        design = Design(side, service, layout)
        batch = min(limit_batches(design).values())
        logs.append(np.log(float(design_metrics(at_batch(design, batch)).throughput)))
    return max(logs)


def contenders(optima: Optima) -> list[Deployment]:
    """Layouts that may become the best within a step: those within a tenth of the best."""
    reached = np.asarray(optima.throughputs)
    near = np.flatnonzero(reached > 0.9 * reached.max())
    return [take(optima.layouts, int(index)) for index in near[:12]]


def moved_side(
    case: Case, name: str, factor: float, model: Model, service: Service, dense: bool
) -> tuple[Model, Service]:
    """A side and its service with an input multiplied; whole sizes of the dense match stay, but
    for q, with which it moves as the real one does.
    """
    if name == "q":
        exact, real, there = (
            aligned(dense_match(model, jnp.asarray(case.q * f), case.kind, exact=whole), model)
            for f, whole in ((1.0, True), (1.0, False), (factor, False))
        )
        side = jax.tree.map(lambda a, b, c: a + (c - b), exact, real, there)
        return (side if dense else aligned(model, model)), service
    design = scaled(
        Design(model, service, Deployment()), named_inputs((name,)), jnp.asarray([np.log(factor)])
    )
    side = dense_match(model, jnp.asarray(case.q), case.kind) if dense else model
    return aligned(side, model), design.service


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(index, marks=pytest.mark.slow if index >= QUICK else ())
        for index in range(COUNT)
    ],
)
def test_slopes_are_those_of_the_optimum_found_anew(index: int) -> None:
    case = cases()[index]
    model, service, result, duel, slopes = solved(case)
    if slopes.ratio is None:
        assert not (bool(result.moe.feasible) and bool(result.dense.feasible))
        return
    for dense, (told, optima) in enumerate(((slopes.moe, duel.moe), (slopes.dense, duel.dense))):
        assert told is not None
        layouts = contenders(optima)
        for name in MOVED:
            if name not in told.elasticity:
                continue
            if name == "q":
                layout = (result.dense if dense else result.moe).deployment
                logs = [
                    np.log(relaxed_throughput(Design(*moved, layout)))
                    for moved in (
                        moved_side(case, name, factor, model, service, bool(dense))
                        for factor in (np.exp(-STEP), np.exp(STEP))
                    )
                ]
                slope = (logs[1] - logs[0]) / (2 * STEP)
                assert told.elasticity[name] == pytest.approx(slope, rel=0.03, abs=0.01), name
                continue
            logs = [
                best_log(*moved_side(case, name, factor, model, service, bool(dense)), layouts)
                for factor in (np.exp(-STEP), 1.0, np.exp(STEP))
            ]
            check(told, name, np.diff(logs) / STEP)


def check(told: SideSlopes, name: str, sides: np.ndarray) -> None:
    """Within 3 %: the central difference where there is no kink, else each side."""
    if name in told.left:
        low, high = sorted((told.left[name], told.right[name]))
        assert np.all((sides > low - 0.03) & (sides < high + 0.03)), (name, sides, told)
        return
    if abs(sides[0] - sides[1]) > 0.05:  # a layout that is not as fast yet takes over in the step
        assert np.min(np.abs(sides - told.elasticity[name])) < 0.03, (name, sides, told)
        return
    assert told.elasticity[name] == pytest.approx(sides.mean(), rel=0.03, abs=0.01), name


def test_slopes_agree_with_sensitivity_and_its_shadow_prices() -> None:
    """One answer: the elasticity in capacity is the price of a byte, and the ratio's slope is the
    difference of both sides'.
    """
    for limit in (NO_LIMIT, 0.02):
        case = Case("mixtral-8x7b", "4xh100", 8192.0, limit, RELEASED, 2.2)
        _, service, result, duel, slopes = solved(case)
        design = Design(duel.moe.model, service, result.moe.deployment)
        alone = sensitivity(design)
        assert alone.relaxed is not None and slopes.moe is not None and slopes.ratio is not None
        assert slopes.moe.binding == alone.binding
        for name in NAMES:
            if name in slopes.moe.elasticity:
                assert slopes.moe.elasticity[name] == pytest.approx(
                    alone.relaxed.elasticity[name], rel=1e-6, abs=1e-9
                )
        assert slopes.dense is not None
        assert slopes.ratio.elasticity["context"] == pytest.approx(
            slopes.dense.elasticity["context"] - slopes.moe.elasticity["context"]
        )


def test_a_gradient_of_compare_follows_the_limit() -> None:
    """What `jax.grad` says of a comparison is what its table says, but for the whole batch."""
    case = Case("mixtral-8x7b", "4xh100", 2048.0, NO_LIMIT, RELEASED, 2.2)
    model, service, _, _, slopes = solved(case)

    def log_ratio(log_capacity):
        there = eqx.tree_at(
            lambda s: s.cluster.accelerator.memory_bytes,
            service,
            service.cluster.accelerator.memory_bytes * jnp.exp(log_capacity),
        )
        result, _ = settle(model, there, jnp.asarray(case.q), case.kind)
        return jnp.log(result.moe.throughput)

    assert slopes.moe is not None and slopes.moe.elasticity["capacity"] > 0.05
    slope = float(jax.grad(log_ratio)(jnp.zeros(())))
    assert slope == pytest.approx(slopes.moe.elasticity["capacity"], rel=0.03)
