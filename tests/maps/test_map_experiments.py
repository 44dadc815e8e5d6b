"""The experiments on maps and sparsity: what they read out of optima."""

import numpy as np
import pytest

import qsopt
from experiments.regimes import hardware_for_moe, phase_maps, sparsity
from qsopt.quality import law


def test_crossings_are_interpolated_in_log_and_pass_over_what_does_not_fit():
    values = np.array([1.0, 2.0, 4.0, 8.0])
    moe = np.array([0.0, 1.0, 2.0, 1.0])
    dense = np.array([5.0, 4.0, 1.0, 1.5])
    changes = list(hardware_for_moe.crossings(values, moe, dense, whole=False))
    assert [winner for _, winner in changes] == ["moe wins", "dense wins"]
    assert changes[0][0] == pytest.approx(2.0 * 2.0 ** (2.0 / 3.0))
    assert [value for value, _ in hardware_for_moe.crossings(values, moe, dense, whole=True)] == [
        4.0,
        8.0,
    ]


def test_a_walk_tells_where_the_moe_wins_for_good():
    values, moe = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 4.0])
    walk = hardware_for_moe.walk(values, moe, np.array([2.0, 2.0, 2.0]), own=2.0, whole=True)
    assert (walk["moe_wins_above"], walk["moe_wins_above_own_times"], walk["ratio_own"]) == (
        4.0,
        2.0,
        2.0,
    )
    lost = hardware_for_moe.walk(
        values, np.array([1.0, 4.0, 1.0]), np.array([2.0, 2.0, 2.0]), own=2.0, whole=True
    )
    assert lost["moe_wins_above"] is None and lost["crossings"] == [2.0, 4.0]


def point(verdict, ratio, q, unsure=None):
    return {"verdict": verdict, "ratio": ratio, "q": q, "s": 0.5, "unsure": unsure}


def test_summary_of_a_map():
    rows = [
        point("dense wins", 2.0, 1.0, True),
        point("moe wins", 0.5, 1.0, False),
        point("moe wins", 0.25, 4.0, False),
        point("moe infeasible", None, 1.0, False),
    ]
    other = [dict(row, verdict="dense wins") for row in rows]
    shares = phase_maps.summary(rows, other)
    assert (
        shares["share_dense_wins"],
        shares["share_moe_wins"],
        shares["share_moe_infeasible"],
    ) == (
        0.25,
        0.5,
        0.25,
    )
    assert shares["qs_calls_it_right"] == pytest.approx(2 / 3)
    assert shares["share_unsure"] == pytest.approx(1 / 3)
    assert shares["share_verdict_differs_from_drawn"] == 0.75
    assert (shares["ratio_least"], shares["ratio_median"], shares["ratio_most"]) == (0.25, 0.5, 2.0)


def test_operating_points_name_what_exists_and_where_it_stands():
    points = phase_maps.operating_points()
    assert points
    for each in points:
        qsopt.load_cluster(f"{each['devices']}x{each['accelerator']}")
        assert each["model"] in qsopt.model_names() and each["source"] and each["context"] > 0


def test_fixed_quality_keeps_the_dense_match():
    model, rule = qsopt.load_model("mixtral-8x7b"), law("geometric")
    own = sparsity.log_sizes(model, rule, 1e12, 8.0, 2.0)
    top_k = sparsity.top_k_at_quality(model, rule, 1e12, 12.0)
    assert 1.0 < top_k < 2.0
    there = sparsity.log_sizes(model, rule, 1e12, 12.0, top_k)
    assert there[0] == pytest.approx(own[0], abs=1e-8) and there[1] < own[1]
    assert sparsity.top_k_at_quality(model, rule, 1e12, 800.0) == 0.0


def test_elasticity_at_fixed_quality_is_the_slope_along_that_direction():
    """With a throughput of N_total^-1 N_active^-2, keeping N_active N_total leaves s^-1/2: slopes
    of both known counts.
    """
    model, rule = qsopt.load_model("mixtral-8x7b"), law("geometric")
    step = 1e-5

    def log_throughput(experts: float, top_k: float) -> float:
        dense, share = sparsity.log_sizes(model, rule, 1e12, experts, top_k)
        active = dense + 0.5 * share  # dense^2 = active total, share = active / total
        return -(dense - 0.5 * share) - 2.0 * active

    slopes = {
        "experts": (
            log_throughput(8.0 * np.exp(step), 2.0) - log_throughput(8.0 * np.exp(-step), 2.0)
        )
        / (2 * step),
        "top_k": (
            log_throughput(8.0, 2.0 * np.exp(step)) - log_throughput(8.0, 2.0 * np.exp(-step))
        )
        / (2 * step),
    }
    assert sparsity.slope_at_fixed_quality(model, rule, 1e12, slopes) == pytest.approx(
        -0.5, abs=1e-6
    )
