"""The best of all ways, with and without what easier questions say: that of a search which settles
every way.
"""

import itertools
from functools import cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from serving_designs import structure
from test_serving_optimum import CASES, service

import qsopt
from qsopt.serving.history import HARDER, History
from qsopt.serving.peak import peak
from qsopt.serving.plan import WAYS
from qsopt.serving.ranking import foremost
from qsopt.serving.replica import Served
from qsopt.serving.ways import layouts_of, lists, searched
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.service import Service

KINDS = (("mixed",), ("disaggregated",), WAYS[1:])


def concrete(model, at: Service, world: Counterfactual | None = None) -> Served:
    return jax.tree.map(np.asarray, Served(model, at, world=world or Counterfactual()))


def same(value: float) -> Any:
    """But for the order of sums, which differs between two compilations."""
    return pytest.approx(float(value), rel=1e-12)


def alone(served: Served) -> Any:
    """The best of all ways where no other answer is known."""
    every, groups = lists(layouts_of(served.model, served.service))
    return same(peak(served, every, groups).throughput)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_best_of_every_way(case: str) -> None:
    served = concrete(structure("gqa"), service(**CASES[case]))
    for ways in KINDS:
        every, groups = lists(layouts_of(served.model, served.service), ways)
        known = searched(served, every, groups).ways
        best = peak(served, every, groups)
        assert float(best.throughput) == same(known.throughput)
        option = foremost(served, every, groups, best)
        assert (option is None) == (not known.feasible)
        if option is not None:
            assert option.way == known.best()[0]
            assert float(option.reached.throughput) == pytest.approx(float(best.throughput))


def test_what_serves_too_little_is_not_settled() -> None:
    served = concrete(structure("gqa"), service())
    every, groups = lists(layouts_of(served.model, served.service))
    most = float(peak(served, every, groups).throughput)
    assert float(peak(served, every, groups, least=0.99 * most).throughput) == same(most)
    lazy = peak(served, every, groups, least=2.0 * most)
    assert float(lazy.throughput) <= most * (1.0 + 1e-12)
    assert lazy.found.known.trials.sum() < peak(served, every, groups).found.known.trials.sum()


@cache
def real() -> tuple[qsopt.Model, Service]:
    """A model and a cluster as they are sold."""
    at = Service(
        qsopt.load_cluster("4xh100"),
        qsopt.Workload(prompt=3000, answer=700, ttft_limit=2.0, tpot_limit=0.05),
        qsopt.load_efficiency("vllm", "h100"),
    )
    return qsopt.load_model("mixtral-8x7b"), at


MOVES = {
    "prompt": (500.0, 3000.0, 3100.0, 40000.0),
    "answer": (20.0, 700.0, 701.0, 9000.0),
    "cached": (0.95, 0.5, 0.49, 0.0),
    "ttft_limit": (1e30, 1.0, 0.2, 1e-6),
    "tpot_limit": (1e30, 0.03, 0.012, 1e-6),
}
"""From easy to hard."""


@pytest.mark.parametrize("name", MOVES)
def test_what_easier_requests_say_changes_no_answer(name: str) -> None:
    model, at = real()
    history = History(*lists(layouts_of(model, at)))
    for value in MOVES[name]:
        served = concrete(
            model, eqx.tree_at(lambda s: getattr(s.workload, name), at, np.float64(value))
        )
        assert float(history.peak(served).throughput) == alone(served)


def test_what_easier_worlds_say_changes_no_answer_and_saves_trials() -> None:
    model, at = real()
    history, tried = History(*lists(layouts_of(model, at))), []
    for switches in itertools.product((0.0, 1.0), repeat=4):
        world = Counterfactual(*map(np.float64, switches))
        served = concrete(model, at, world)
        best = history.peak(served)
        assert float(best.throughput) == alone(served), switches
        tried.append(np.count_nonzero(best.found.known.trials))
    assert max(tried[2:]) < tried[0]


def test_questions_in_any_order_keep_their_answers() -> None:
    """Also where what is known was carried from one question to another and on to a third."""
    random, model, at = np.random.default_rng(0), structure("gqa"), service()
    history = History(*lists(layouts_of(model, at)))
    grids = {
        "prompt": (2048.0, 16384.0, 20000.0),
        "answer": (500.0, 2000.0, 2100.0, 17000.0),
        "cached": (0.9, 0.5, 0.0),
        "ttft_limit": (1e30, 1.55e-2, 1e-2),
        "tpot_limit": (1e30, 1.3e-3, 1.15e-3),
    }
    for _ in range(40):
        asking = at
        for name, values in grids.items():
            value = np.float64(random.choice(values))
            asking = eqx.tree_at(lambda s, name=name: getattr(s.workload, name), asking, value)
        served = concrete(model, asking)
        assert float(history.peak(served).throughput) == alone(served)


def test_other_clusters_and_slower_devices() -> None:
    """Slower memory is harder, and known bounds hold; of another cluster nothing is known."""
    model, at = real()
    history = History(*lists(layouts_of(model, at)))
    for factor in (1.0, 0.9, 0.5, 2.0):
        slower = eqx.tree_at(
            lambda s: (s.cluster.accelerator.bandwidth, s.cluster.accelerator.scale_up_bandwidth),
            at,
            tuple(
                np.float64(factor * float(speed))
                for speed in (
                    at.cluster.accelerator.bandwidth,
                    at.cluster.accelerator.scale_up_bandwidth,
                )
            ),
        )
        served = concrete(model, slower)
        assert float(history.peak(served).throughput) == alone(served)


def test_every_number_of_the_order_is_a_number_of_its_own() -> None:
    model, at = real()
    served = concrete(model, at)
    marked = eqx.tree_at(
        lambda s: tuple(number(s) for _, number in HARDER),
        served,
        tuple(np.float64(place) for place in range(len(HARDER))),
    )
    assert [float(number(marked)) for _, number in HARDER] == list(range(len(HARDER)))
