"""Maps over requests: both sides are at the exact optimum of the search at every point."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest

from qsopt import InputError, Workload, load_cluster, load_efficiency, load_model
from qsopt.comparison.dense import NAMED
from qsopt.comparison.twin import aligned
from qsopt.maps.axes import Axis, axis
from qsopt.maps.pair import MatchedPair
from qsopt.maps.request_map import RequestMap, request_map
from qsopt.serving.replica import Served
from qsopt.serving.ways import SEARCHED, layouts_of, lists, searched
from qsopt.spec.rules import PLAIN
from qsopt.spec.service import Service

VALUES = {
    "prompt": np.geomspace(700.0, 90_000.0, 11),
    "answer": np.geomspace(100.0, 6_000.0, 9),
    "cached": np.geomspace(0.1, 0.95, 7),
    "ttft": np.geomspace(0.2, 8.0, 9),
    "tpot": np.geomspace(0.005, 0.1, 10),
    "load": np.array([0.2, 0.5, 0.8]),
    "bandwidth": np.geomspace(1e12, 1e13, 8),
}
MAPS = [
    ("prompt", "answer"),
    pytest.param("cached", "tpot", marks=pytest.mark.slow),
    pytest.param("ttft", "prompt", marks=pytest.mark.slow),
    pytest.param("load", "answer", marks=pytest.mark.slow),
    pytest.param("bandwidth", "tpot", marks=pytest.mark.slow),
]


@cache
def pair() -> MatchedPair:
    """Two models that exist on four devices, under both limits."""
    workload = Workload(prompt=8192.0, answer=1000.0, ttft_limit=3.0, tpot_limit=0.03)
    service = Service(load_cluster("4xh200"), workload, load_efficiency("fitted"), PLAIN)
    model, dense = load_model("qwen3-30b-a3b"), load_model("qwen3-14b")
    return MatchedPair(model, service, 4.0, NAMED, dense)


@cache
def drawn(x: str, y: str) -> RequestMap:
    return request_map(pair(), Axis(x, VALUES[x]), Axis(y, VALUES[y]))  # pyright: ignore[reportArgumentType]


def best(side, changes: dict[str, float]) -> np.ndarray:
    """Throughput of every way by the search of one question."""
    service = pair().service
    for name, value in changes.items():
        number = Axis(name, VALUES[name]).kind.number  # pyright: ignore[reportArgumentType]
        service = eqx.tree_at(number, service, np.asarray(value))  # pyright: ignore[reportArgumentType]
    served = jax.tree.map(np.asarray, Served(aligned(side, pair().model), service))
    return searched(served, *lists(layouts_of(side, service))).ways.throughputs


@pytest.mark.parametrize(("x", "y"), MAPS)
def test_every_point_is_the_optimum_of_a_search(x: str, y: str) -> None:
    found = drawn(x, y)
    generator = np.random.default_rng(0)
    for _ in range(6):
        place = tuple(int(generator.integers(len(VALUES[name]))) for name in (x, y))
        changes = {name: float(VALUES[name][at]) for name, at in zip((x, y), place, strict=True)}
        for side, optima in ((pair().model, found.moe), (pair().dense, found.dense)):
            ways = best(side, changes)
            assert optima.throughput[place] == pytest.approx(float(np.max(ways)), rel=1e-9), changes
            if np.max(ways) > 0.0:
                assert ways[optima.way[place]] >= np.max(ways) * (1 - 1e-9)
            else:
                assert optima.way[place] == -1


def test_a_map_may_have_no_feasible_point() -> None:
    """No token is written within a microsecond, whatever its prompt and answer."""
    service = eqx.tree_at(lambda s: s.workload.tpot_limit, pair().service, np.asarray(1e-6))
    hopeless = replace(pair(), service=service)
    ends = [Axis(name, VALUES[name][:2]) for name in ("prompt", "answer")]
    found = request_map(hopeless, *ends)  # pyright: ignore[reportArgumentType]
    for optima in (found.moe, found.dense):
        assert (optima.throughput == 0.0).all()
        assert (optima.writes == -1).all() and (optima.reads == -1).all()


def test_requests_fall_with_prompts_and_answers() -> None:
    found = drawn("prompt", "answer")
    for side in (found.moe, found.dense):
        assert np.all(side.throughput > 0.0)
        requests = side.throughput / VALUES["answer"]
        assert np.all(np.diff(requests, axis=0) <= 1e-9 * requests[:-1])
        # with longer answers more sequences share the reading of prompts, in whole numbers
        longer = VALUES["answer"][1:] / VALUES["answer"][:-1]
        sharing = side.units[:, 1:] / longer
        allowance = np.where(sharing >= 1.0, sharing / np.maximum(np.floor(sharing), 1.0), np.inf)
        assert np.all(requests[:, 1:] <= requests[:, :-1] * allowance * (1.0 + 1e-9))
    assert len(np.unique(found.moe.way)) > 1, "the map would say little about ways"
    assert SEARCHED[int(found.moe.way[0, 0])] in SEARCHED


def test_the_ratio_is_that_of_both_sides() -> None:
    found = drawn("prompt", "answer")
    expected = found.dense.throughput / found.moe.throughput
    np.testing.assert_allclose(found.ratio, expected)
    assert found.verdicts[3][4] == ("dense wins" if expected[3, 4] > 1.0 else "moe wins")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ("prompt", "prompt", "two different axes"),
        ("context", "prompt", "no axis of a map over requests"),
        ("acceptance", "prompt", "nothing is drafted"),
    ],
)
def test_axes_that_make_no_map_are_refused(x: str, y: str, words: str) -> None:
    axes = (Axis(name, np.array([0.5, 1.0])) for name in (x, y))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=words):
        request_map(pair(), *axes)


def test_shares_end_at_one() -> None:
    with pytest.raises(InputError, match="share"):
        axis("cached", pair().model, pair().service, 0.1, 1.5)
