"""The search of a comparison in parts, and without what is behind: the same as over the whole
list.
"""

import itertools
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

from qsopt import load_cluster, load_efficiency, load_model
from qsopt.comparison.break_even import break_even
from qsopt.comparison.compare import settle
from qsopt.comparison.dense import SAME_BODY, relaxed_matches
from qsopt.comparison.duel import Duel
from qsopt.comparison.penalties import WORLDS
from qsopt.comparison.worlds import in_all_worlds
from qsopt.deployments import optimum
from qsopt.deployments.batches import length, repeat, take
from qsopt.deployments.contest import CLOSE
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import searched
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import ideal
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

SHORT = 16
"""Layouts that are worked on at once here."""

ROUNDING = 1e-14
"""Relative: a compiler rounds a row at the end of a list apart from one in its middle."""

Case = tuple[Model, Service, Duel, float]


@pytest.fixture(scope="module")
def case() -> Case:
    """Mixtral on eight devices: some 150 layouts of the MoE, some 50 of its match."""
    model = load_model("mixtral-8x7b")
    service = Service(load_cluster("8xh100"), Workload(8192.0, tpot_limit=0.02), ideal())
    result, duel = settle(model, service, np.asarray(1.9), SAME_BODY)
    return model, service, duel, float(result.break_even_q)


def test_layouts_behind_at_the_lower_end_of_an_interval_are_behind_in_all_of_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branch and bound against enumeration: every layout at 40 sizes falls with q, and the q that
    flips the verdict is the same with the layouts dropped and without.
    """
    model, service, duel, whole = case
    qs = np.geomspace(1.0, 6.0, 40)
    found = np.asarray(
        searched(relaxed_matches(model, qs, SAME_BODY), service, duel.dense.layouts).throughputs
    )
    assert found.shape == (40, length(duel.dense.layouts))
    assert np.all(np.diff(found, axis=0) <= 1e-9 * found[:-1])
    for module in ("comparison.break_even", "deployments.optimum", "deployments.batches"):
        monkeypatch.setattr(f"qsopt.{module}.CHUNK", SHORT)
    looked_at = count_of_layouts(monkeypatch)
    assert float(break_even(model, service, duel)) == whole
    assert looked_at[0] == length(duel.dense.layouts)
    assert max(looked_at[2:]) < length(duel.dense.layouts)


def count_of_layouts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layouts of every search that `break_even` makes from now on."""
    seen: list[int] = []

    def counted(models: Model, service: Service, layouts: Deployment, *rest: Any, near: float):
        seen.append(length(layouts))
        return searched(models, service, layouts, *rest, near=near)

    monkeypatch.setattr("qsopt.comparison.break_even.searched", counted)
    return seen


def test_worlds_without_layouts_that_cannot_win_are_those_of_all_layouts(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branch and bound against enumeration, with the efficiencies of servers: no layout is faster
    than where residency and communication are off, and the best of each world is the same.
    """
    _, served, duel, _ = case
    service = eqx.tree_at(lambda s: s.efficiency, served, load_efficiency("fitted"))
    side, layouts = duel.moe.model, duel.moe.layouts
    every = searched(repeat(side, len(WORLDS.reuse)), service, layouts, WORLDS)
    throughputs = np.asarray(every.throughputs)
    for reuse, imbalance in itertools.product((0.0, 1.0), repeat=2):
        own = (WORLDS.reuse == reuse) & (WORLDS.imbalance == imbalance)
        off = own & (WORLDS.residency + WORLDS.communication == 0.0)
        assert np.all(throughputs[own] <= throughputs[off] * (1.0 + 1e-9))
    for module in ("comparison.worlds", "deployments.optimum", "deployments.batches"):
        monkeypatch.setattr(f"qsopt.{module}.CHUNK", SHORT)
    found, worlds = in_all_worlds(side, service, layouts)
    close = throughputs[0] >= CLOSE * throughputs[0].max()
    np.testing.assert_allclose(
        np.asarray(found.throughputs)[0, close], throughputs[0, close], rtol=ROUNDING
    )
    assert (np.asarray(found.throughputs)[0] >= throughputs[0] * (1.0 - 1e-12)).all()
    np.testing.assert_allclose(worlds, every.best.throughput, rtol=1e-9)


def test_a_list_in_parts_is_the_list(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three models in three worlds, and of ten."""
    _, service, duel, _ = case
    side = duel.moe.model
    worlds = Counterfactual(*(np.array([1.0, 0.0, 1.0]) for _ in range(4)))
    whole = searched(repeat(side, 3), service, duel.moe.layouts, worlds)
    many = searched(repeat(side, 10), service, duel.moe.layouts)
    assert length(many) == 10
    best = np.full(10, float(duel.moe.best.throughput))
    np.testing.assert_allclose(many.best.throughput, best, rtol=ROUNDING)
    monkeypatch.setattr(optimum, "CHUNK", SHORT)
    parts = searched(repeat(side, 3), service, duel.moe.layouts, worlds)
    for one, other in zip(jax.tree.leaves(whole.best), jax.tree.leaves(parts.best), strict=True):
        np.testing.assert_allclose(one, other, rtol=ROUNDING)
    listed = length(legal_layouts(side, service.cluster))  # the rest only fills up
    np.testing.assert_allclose(
        whole.throughputs[:, :listed], parts.throughputs[:, :listed], rtol=ROUNDING
    )
    assert float(whole.best.throughput[1]) > float(whole.best.throughput[0])


def test_lists_of_layouts_are_made_once_and_shared_with_nobody() -> None:
    model, cluster = load_model("mixtral-8x7b"), load_cluster("8xh100")
    first = legal_layouts(model, cluster)
    np.asarray(first.tensor)[:] = 7.0
    again = legal_layouts(model, cluster)
    assert float(np.min(again.tensor)) == 1.0
    other = legal_layouts(model, load_cluster("8xmi300x"))
    assert length(take(other, slice(0, None))) == length(again)
