import csv
import os
from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.tables.aiconfigurator_routing import routed

DATA = Path(
    os.environ.get("QSOPT_MEASURED", Path(__file__).parents[2].parent / "shared" / "measured")
)


@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "ranks", "found"),
    [
        (1, 256, 8, 1, (8, 8, 1)),
        (64, 256, 8, 1, (256, 512, 2)),
        (8, 256, 8, 8, (8, 8, 1)),
        (3, 8, 2, 1, (6, 6, 1)),
        (4, 8, 2, 4, (2, 2, 1)),
    ],
)
def test_balanced_routing_by_hand(tokens, experts, top_k, ranks, found):
    assert routed("balanced", tokens, experts, top_k, ranks) == found
    assert routed("uniform", tokens, experts, top_k, ranks) == found


@pytest.mark.parametrize("tokens", [1, 16, 512])
@pytest.mark.parametrize("ranks", [1, 8])
def test_power_law_keeps_what_is_known(tokens, ranks):
    work = routed("power_law_1.2", tokens, 128, 4, ranks)
    assert work is not None
    rows = 4 * tokens
    assert work.rows == rows if ranks == 1 else rows / ranks <= work.rows <= rows
    assert 1 <= work.hit <= min(128 / ranks, work.rows)
    assert work.rows / work.hit <= work.fullest <= tokens


def test_steeper_laws_hit_fewer_experts():
    hit = [routed(f"power_law_{alpha}", 32, 256, 8, 1) for alpha in (0.6, 1.01, 1.6)]
    assert hit[0] and hit[1] and hit[2]
    assert hit[0].hit > hit[1].hit > hit[2].hit


def test_earlier_rule_heaps_what_rounding_left():
    """One token's 8 rows round to nothing each, and all go to the first experts."""
    assert routed("power_law_1.2", 1, 256, 8, 8, hottest=True) == (8, 8, 1)
    assert routed("power_law_1.2", 1, 256, 8, 8) == (1, 1, 1)
    plain, early = (routed("power_law_1.2", 512, 256, 8, 1, hottest=rule) for rule in (False, True))
    assert plain and early
    assert early.rows == plain.rows
    assert early.hit < plain.hit


def test_balancing_evens_ranks_out():
    plain, dealt, copied = (
        routed(name, 256, 256, 8, 16, slots)
        for name, slots in (
            ("power_law_1.2", 0),
            ("power_law_1.2_eplb", 256),
            ("power_law_1.2_eplb", 288),
        )
    )
    assert plain and dealt and copied
    mean = 256 * 8 / 16
    assert mean <= dealt.rows < plain.rows
    assert mean <= copied.rows < 1.01 * mean
    assert copied.fullest < dealt.fullest


@pytest.mark.parametrize(
    ("name", "experts", "ranks"),
    [("zipf", 8, 1), ("power_law_steep", 8, 1), ("balanced", 8, 3), ("power_law_1.2", 8, 16)],
)
def test_no_rule_no_answer(name, experts, ranks):
    assert routed(name, 4, experts, 2, ranks) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured data are not here")
def test_agrees_with_columns_derived_elsewhere():
    with (DATA / "moe_b300_sxm.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::8]
    sizes = ("num_tokens", "num_experts", "topk", "moe_ep")
    work = [routed(row["distribution"], *(int(row[name]) for name in sizes)) for row in rows]
    hit = (
        np.array(
            [one.hit / float(row["uniq_local"]) for one, row in zip(work, rows, strict=True) if one]
        )
        - 1
    )
    computed = (
        np.array(
            [
                one.rows / float(row["rows_local"])
                for one, row in zip(work, rows, strict=True)
                if one
            ]
        )
        - 1
    )
    balanced = np.array([row["distribution"] == "balanced" for row in rows])
    assert len(hit) == len(rows)
    np.testing.assert_allclose(hit[balanced], 0.0, atol=1e-9)
    np.testing.assert_allclose(computed[balanced], 0.0, atol=1e-9)
    for error in (hit, computed):
        assert abs(np.median(error)) < 0.01
        assert np.quantile(np.abs(error), 0.9) < 0.12


@pytest.mark.parametrize(
    ("distribution", "sizes"),
    [
        ("power_law_1.2", (-(2**63), 128, 8, 4)),
        ("power_law_1.2", (512, 128, 0, 4)),
        ("power_law_1.2", (512, 128, 8, 0)),
        ("power_law_1.0", (512, 128, 8, 4)),
        ("balanced", (512, 8, 9, 4)),
        ("balanced", (10**15, 128, 8, 4)),
    ],
)
def test_sizes_that_no_layer_has_are_no_rows(distribution: str, sizes: tuple[int, ...]) -> None:
    assert routed(distribution, *sizes) is None
