"""A point of a map is the comparison at that point: both sides, their layouts, and what does not
fit.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import qsopt
from qsopt import belief, compare
from qsopt.cli.map import Map
from qsopt.comparison.dense import NAMED, RELEASED, RELEASED_GQA8, SAME_BODY, size_factor
from qsopt.comparison.twin import dense_twin, geometric_q, qs_numbers
from qsopt.deployments.capped import ServedModel, best_throughputs
from qsopt.deployments.layouts import legal_layouts
from qsopt.errors import InputError
from qsopt.maps import bounds
from qsopt.maps.axes import AXIS_KINDS, Axis, axis
from qsopt.maps.phase_map import PhaseMap, phase_map
from qsopt.maps.points import Sparsity, point_grid, with_top_k_factor
from qsopt.quality.belief import given
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GB

MODEL = "mixtral-8x7b"


@pytest.fixture(scope="module")
def model():
    return qsopt.load_model(MODEL)


@pytest.fixture(scope="module")
def service():
    """Four devices in two domains, so that both kinds of links count."""
    four = Service(qsopt.load_cluster("4xh100"), Workload(8192.0), qsopt.load_efficiency("fitted"))
    return moved(four, "domain", 2.0)


def believe(side):
    return belief(side, "geometric", None)


def compared(model, service, q=None):
    return compare(model, service=service, q=q, law="geometric", twin="same-body")


def moved(service, name, value):
    leaf = {
        "context": lambda p: p.workload.context,
        "tpot": lambda p: p.workload.tpot_limit,
        "devices": lambda p: p.cluster.devices,
        "bandwidth": lambda p: p.cluster.accelerator.bandwidth,
        "capacity": lambda p: p.cluster.accelerator.memory_bytes,
        "scale_up": lambda p: p.cluster.accelerator.scale_up_bandwidth,
        "scale_out": lambda p: p.cluster.accelerator.scale_out_bandwidth,
        "domain": lambda p: p.cluster.accelerator.scale_up_devices,
    }[name]
    return eqx.tree_at(leaf, service, np.asarray(float(value)))


def assert_point(found: PhaseMap, at: tuple[int, int], result) -> None:
    """A point of a map has the throughputs, the layouts and the verdict of a comparison."""
    assert found.verdicts[at[0]][at[1]] == result.verdict
    assert found.q[at] == pytest.approx(float(result.numbers.q), rel=1e-12)
    assert found.s[at] == pytest.approx(float(result.numbers.s), rel=1e-12)
    np.testing.assert_allclose(found.ratio[at], float(result.ratio), rtol=1e-9)
    for optimum, layouts, side in zip(
        (found.moe, found.dense), found.layouts, (result.moe, result.dense), strict=True
    ):
        assert optimum.throughput[at] == pytest.approx(float(side.throughput), rel=1e-9)
        if not bool(side.feasible):
            assert optimum.layout[at] == -1
            continue
        assert optimum.batch[at] == float(side.deployment.batch)
        for size in ("tensor", "data", "pipeline", "expert", "dispatched"):
            assert np.asarray(getattr(layouts, size))[optimum.layout[at]] == float(
                getattr(side.deployment, size)
            )


CASES = [
    ("context", (512.0, 4e6), "devices", (1.0, 6.0)),
    ("bandwidth", (1e12, 8e12), "capacity", (10 * GB, 200 * GB)),
    ("scale_up", (1e10, 1e12), "domain", (1.0, 4.0)),
    ("tpot", (0.004, 0.1), "scale_out", (1e9, 1e11)),
]


@pytest.mark.parametrize(("x", "x_range", "y", "y_range"), CASES)
def test_points_equal_comparisons(model, service, x, x_range, y, y_range):
    found = phase_map(
        model,
        service,
        axis(x, model, service, *x_range, points=19),
        axis(y, model, service, *y_range, points=9),
        believe,
    )
    columns, rows = found.q.shape
    for at in ((0, 0), (columns - 1, 0), (columns // 2, rows // 2), (columns // 3, rows - 1)):
        there = moved(moved(service, x, found.x.values[at[0]]), y, found.y.values[at[1]])
        assert_point(found, at, compared(model, there))


def test_points_that_do_not_fit(model, service):
    found = phase_map(
        model,
        service,
        axis("context", model, service, 512.0, 4e7, 8),
        axis("devices", model, service, 1, 4, 4),
        believe,
    )
    outcomes = {outcome for column in found.verdicts for outcome in column}
    assert {"moe infeasible", "both infeasible"} <= outcomes
    assert np.isnan(found.ratio[found.moe.throughput == 0.0]).all()


def test_sparsity_and_q_equal_comparisons(model, service):
    share = Sparsity.from_model(model)
    x, y = axis("sparsity", model, service, points=5), axis("q", model, service, points=4)
    found = phase_map(model, service, x, y, believe)
    for at in ((0, 0), (2, 3), (4, 1)):
        factor = float(share.factors(x.values[at[0] : at[0] + 1])[0])
        changed = with_top_k_factor(model, np.asarray(factor))
        assert float(qs_numbers(changed, geometric_q(changed)).s) == pytest.approx(
            x.values[at[0]], rel=1e-12
        )
        assert_point(found, at, compared(changed, service, y.values[at[1]]))
    alone = phase_map(model, service, x, axis("context", model, service, 1e3, 1e5, 2), believe)
    changed = with_top_k_factor(model, np.asarray(float(share.factors(x.values[1:2])[0])))
    assert alone.q[1, 0] == pytest.approx(believe(changed).q, rel=1e-12)
    assert found.believed is not None and found.sure is None


def test_batch_equals_the_exact_search_under_a_cap(model, service):
    x, y = (
        axis("batch", model, service, 1, 5000, 9),
        Axis("devices", np.array([1.0, 2.0, 3.0, 4.0])),
    )
    found = phase_map(model, service, x, y, believe)
    for (i, batch), (j, devices) in [
        ((i, x.values[i]), (j, y.values[j])) for i in (0, 4, 8) for j in (2, 3)
    ]:
        there = moved(service, "devices", devices)
        case = jax.tree.map(
            lambda leaf: np.asarray(leaf)[None], ServedModel(model, there, np.asarray(batch))
        )
        (expected,) = best_throughputs(case, legal_layouts(model, there.cluster))
        assert found.moe.throughput[i, j] == pytest.approx(float(expected), rel=1e-9)
    unlimited = phase_map(model, service, y, Axis("context", np.array([8192.0])), believe)
    assert (found.moe.throughput <= unlimited.moe.throughput[:, 0] * (1 + 1e-9)).all()


def test_bounds_change_nothing(model, service, monkeypatch):
    """Without trends every layout is evaluated at every point; the map must be the same."""
    axes = (
        axis("context", model, service, 1e3, 1e6, 9),
        axis("bandwidth", model, service, 1e12, 8e12, 9),
    )
    quick = phase_map(model, service, *axes, believe)
    monkeypatch.setattr(bounds, "BLOCKS", (1,))
    plain = phase_map(model, service, *axes, believe)
    for one, other in ((quick.moe, plain.moe), (quick.dense, plain.dense)):
        np.testing.assert_allclose(one.throughput, other.throughput, rtol=1e-12)
        np.testing.assert_array_equal(one.layout, other.layout)
        np.testing.assert_array_equal(one.batch, other.batch)
    monkeypatch.setattr(bounds, "MOST_AT_ONCE", 20)
    strips = phase_map(model, service, *axes, believe)
    np.testing.assert_array_equal(strips.moe.layout, plain.moe.layout)
    assert (
        strips.moe.evaluated == plain.moe.evaluated == 81 * len(np.asarray(quick.layouts[0].tensor))
    )


def enumerate_all(monkeypatch) -> None:
    """From now on every layout is evaluated at every point of a map."""
    monkeypatch.setattr(bounds, "BLOCKS", (1,))
    monkeypatch.setattr(bounds, "axis_of_devices", lambda *_: None)


@pytest.mark.parametrize(
    ("y", "limit", "kind"),
    [
        ("context", 1e15, SAME_BODY),
        ("context", 0.011, RELEASED),
        pytest.param("q", 0.02, RELEASED, marks=pytest.mark.slow),
        pytest.param("bandwidth", 0.006, SAME_BODY, marks=pytest.mark.slow),
        pytest.param("sparsity", 1e15, SAME_BODY, marks=pytest.mark.slow),
    ],
)
def test_one_replica_tells_of_all_numbers_of_devices(model, service, monkeypatch, y, limit, kind):
    """Whole domains, and devices that are left over; either axis first."""
    limited = moved(moved(service, "tpot", limit), "domain", 4.0)
    ranges = {"context": (1e3, 1e6), "bandwidth": (5e11, 8e12), "q": (1.0, 6.0)}
    low, high = ranges.get(y, (None, None))
    axes = Axis("devices", np.arange(1.0, 12.0)), axis(y, model, limited, low, high, points=18)
    quick = phase_map(model, limited, *axes, believe, kind=kind)
    turned = phase_map(model, limited, axes[1], axes[0], believe, kind=kind)
    enumerate_all(monkeypatch)
    plain = phase_map(model, limited, *axes, believe, kind=kind)
    for side in ("moe", "dense"):
        expected = getattr(plain, side)
        for name, tolerance in (("throughput", 1e-12), ("layout", 0.0), ("batch", 0.0)):
            whole = getattr(expected, name)
            np.testing.assert_allclose(getattr(getattr(quick, side), name), whole, tolerance)
            np.testing.assert_allclose(getattr(getattr(turned, side), name).T, whole, tolerance)
        assert getattr(quick, side).evaluated < expected.evaluated
    assert (plain.moe.throughput > 0.0).any() and (plain.moe.throughput == 0.0).any()


@pytest.mark.parametrize(
    ("x", "limit"), [("context", 0.02), ("context", 0.006), ("devices", 0.012), ("batch", 0.012)]
)
def test_a_limit_on_the_time_per_token_changes_nothing_in_that(
    model, service, monkeypatch, x, limit
):
    """Where every point breaks it in some layouts, and some points in all."""
    limited = moved(service, "tpot", limit)
    low, high = {"devices": (1.0, 4.0), "batch": (1.0, 5000.0)}.get(x, (1e3, 1e6))
    axes = (
        axis(x, model, limited, low, high, points=4),
        axis("bandwidth", model, limited, 1e12, 8e12, 18),
    )
    quick = phase_map(model, limited, *axes, believe)
    enumerate_all(monkeypatch)
    plain = phase_map(model, limited, *axes, believe)
    for one, other in ((quick.moe, plain.moe), (quick.dense, plain.dense)):
        np.testing.assert_allclose(one.throughput, other.throughput, rtol=1e-12)
        np.testing.assert_array_equal(one.layout, other.layout)
        np.testing.assert_array_equal(one.batch, other.batch)
    assert (quick.dense.throughput > 0.0).any()


@pytest.mark.parametrize("kind", [RELEASED, RELEASED_GQA8])
def test_maps_of_released_twins_equal_enumeration_and_comparisons(
    model, service, monkeypatch, kind
):
    """Along q whole layers and heads jump, and with them the layouts that the match has."""
    axes = axis("q", model, service, 1.0, 6.0, 7), axis("context", model, service, 1e3, 1e6, 8)
    quick = phase_map(model, service, *axes, believe, kind=kind)
    for at in ((0, 0), (3, 4), (6, 7)):
        there = moved(service, "context", axes[1].values[at[1]])
        twin: dict[str, Any] = {"twin": "released", "twin_attention": kind.attention}
        assert_point(quick, at, compare(model, service=there, q=axes[0].values[at[0]], **twin))
    monkeypatch.setattr(bounds, "BLOCKS", (1,))
    plain = phase_map(model, service, *axes, believe, kind=kind)
    np.testing.assert_allclose(quick.dense.throughput, plain.dense.throughput, rtol=1e-12)
    np.testing.assert_array_equal(quick.dense.layout, plain.dense.layout)
    assert quick.dense.evaluated < 2 * plain.dense.evaluated


def test_a_named_dense_model_has_no_size_to_move(model, service):
    named = qsopt.load_model("llama-3.1-8b")
    axes = (
        axis("sparsity", model, service, points=3),
        axis("context", model, service, 1e3, 1e5, 3),
    )
    found = phase_map(
        model, service, *axes, lambda side: given(float(size_factor(side, named))),
        kind=NAMED, named=named,
    )  # fmt: skip
    assert np.ptp(found.dense.throughput, axis=0).max() == 0.0
    expected = qsopt.compare(model, service=moved(service, "context", 1e5), dense=named)
    assert found.dense.throughput[0, 2] == pytest.approx(float(expected.dense.throughput))
    assert np.ptp(found.q * found.s) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InputError, match="its size is its own"):
        phase_map(
            model, service, axes[1], axis("q", model, service), believe, kind=NAMED, named=named
        )


@pytest.mark.parametrize("name", [name for name, kind in AXIS_KINDS.items() if kind.trend[0]])
def test_trends_hold_for_every_layout(model, service, name):
    """What the bounds rest on, layout by layout: along its axis throughput never moves against the
    trend.
    """
    along = axis(name, model, service, points=6)
    layouts = legal_layouts(model, service.cluster)
    rows = []
    for index in range(0, len(np.asarray(layouts.tensor)), 3):
        one = jax.tree.map(lambda leaf, index=index: np.asarray(leaf)[index : index + 1], layouts)
        capped = name == "batch"
        side = bounds.MapSide(model, service, one, kind=None, capped=capped)
        changes = [(AXIS_KINDS[name].number, along.values[:, None])]
        points = point_grid(service, None, (len(along.values), 1), changes)
        rows.append(bounds.optima(side, points, (0, 0)).throughput[:, 0])
    trend = AXIS_KINDS[name].trend[0]
    assert trend is not None
    steps = np.diff(np.array(rows, dtype=float), axis=1) * trend
    assert (steps >= -1e-9 * np.array(rows)[:, 1:]).all()
    assert np.abs(steps).max() > 0.0


def test_the_interval_of_q_decides_what_is_sure(model, service):
    axes = axis("context", model, service, 1e3, 1e5, 4), axis("devices", model, service, 2, 4, 3)
    held = believe(model)
    found = phase_map(model, service, *axes, believe)
    ends = [phase_map(model, service, *axes, lambda _, q=q: given(q)) for q in held.interval]
    assert found.dense_low is not None and found.dense_high is not None
    np.testing.assert_allclose(found.dense_low.throughput, ends[0].dense.throughput, rtol=1e-12)
    np.testing.assert_allclose(found.dense_high.throughput, ends[1].dense.throughput, rtol=1e-12)
    same = [
        [a == b for a, b in zip(*pair, strict=True)]
        for pair in zip(ends[0].verdicts, ends[1].verdicts, strict=True)
    ]
    np.testing.assert_array_equal(found.sure, np.array(same))
    assert ends[0].sure is None


def test_what_is_refused(model, service):
    context = axis("context", model, service)
    with pytest.raises(InputError, match="two different axes"):
        phase_map(model, service, context, context, believe)
    with pytest.raises(InputError, match="unknown axis 'contxt': did you mean context"):
        axis("contxt", model, service)
    with pytest.raises(InputError, match="smaller first"):
        axis("context", model, service, 1e5, 1e3)
    with pytest.raises(InputError, match="points"):
        axis("context", model, service, points=1)
    dense = dense_twin(model, 2.0)
    with pytest.raises(InputError, match="dense"):
        phase_map(dense, service, context, axis("devices", model, service), believe)
    with pytest.raises(InputError, match="experts per token"):
        phase_map(model, service, context, Axis("sparsity", np.array([0.01, 0.5])), believe)
    with pytest.raises(InputError, match="no feed-forward layers"):
        phase_map(model, service, context, Axis("q", np.array([1e-3, 1.0])), believe)


# ---- the command ---------------------------------------------------------------------------------

COMMAND = Map(
    MODEL,
    "4xh100",
    law="geometric",
    twin="same-body",
    x="context",
    x_points=3,
    y="devices",
    y_from="1",
    y_to="4",
    y_points=4,
)


def test_command_tells_what_the_map_holds(model, service, capsys, tmp_path):
    path = tmp_path / "new" / "map.png"
    replace(COMMAND, json=True, plot=path).run()
    record = json.loads(capsys.readouterr().out)
    four = moved(service, "domain", 8.0)
    axes = axis("context", model, four, points=3), axis("devices", model, four, 1, 4, 4)
    found = phase_map(model, four, *axes, believe)
    assert [each["name"] for each in record["axes"]] == ["context", "devices"]
    assert record["axes"][1]["values"] == [1.0, 2.0, 3.0, 4.0]
    assert record["verdict"] == found.verdicts
    assert record["sure"] == found.sure.tolist()
    np.testing.assert_allclose(
        np.array(record["ratio_dense_over_moe"], float), found.ratio, rtol=1e-12
    )
    assert (
        record["moe"]["layout"][0][0] is None
        and record["moe"]["throughput_tokens_per_s"][0][0] == 0.0
    )
    chosen = record["moe"]["layouts"][record["moe"]["layout"][0][3]]
    assert chosen["tp"] * chosen["dp"] == chosen["ep"] * chosen["etp"]
    assert path.read_bytes().startswith(b"\x89PNG")


def test_command_as_text(capsys):
    COMMAND.run()
    text = capsys.readouterr().out
    assert "D dense wins" in text and "context length [tokens]" in text
    assert "beyond 32,768 tokens" in text
    assert text.count("\n") == 4 + 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y": "context"}, "two different axes"),
        ({"x_from": 1e5, "x_to": 1e3}, "the smaller first"),
        ({"cluster": "4xrtx-4090", "y_from": 1, "y_to": 64}, "no link speed is known"),
        ({"batch": 0.0}, "1 or more sequences"),
        ({"plot": "map.jpg"}, r"ends in \.png"),
    ],
)
def test_command_refuses(changes, words):
    changes = {name: Path(value) if name == "plot" else value for name, value in changes.items()}
    with pytest.raises(InputError, match=words):
        replace(COMMAND, **changes).run()
