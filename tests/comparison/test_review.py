"""The numbers of an independent review of the comparison (all are in docs/comparison-items.md), and
what its freedoms must never do.
"""

from typing import Any

import pytest

from experiments.paper.comparison_items import (
    AT_128K,
    GQA8,
    H200,
    OSS,
    PAPER,
    RACK,
    RELEASED,
    SHARED,
    SLOTS,
    VLLM,
    merged_copies,
    ratio,
)
from qsopt import Workload, load_cluster, load_model
from qsopt.cli.options import Question
from qsopt.comparison.duel import throughput_of
from qsopt.spec.efficiency import ideal
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

BIT = 0.01
"""Relative distance from the review where both count the same."""

REFIT = 0.05
"""And where the constants of kernels and servers have been fitted anew since."""


def found(flags: dict[str, Any]) -> float | None:
    return ratio(Question(**flags))[0]


def test_shared_caches_turn_the_papers_ratio_into_that_of_the_review() -> None:
    """8 MI300X, bf16, 128k, ideal: 6.49 with a cache on every rank, 3.75 to 3.86 shared; at 85 % of
    the memory nothing runs without sharing, and 4.7 to 4.85 with it.
    """
    less = {"utilization": 0.85}
    assert found(PAPER) == pytest.approx(6.49, rel=BIT)
    assert found(PAPER | SHARED) == pytest.approx(3.75, rel=BIT)
    assert found(PAPER | less) is None
    assert found(PAPER | SHARED | less) == pytest.approx(4.7, rel=BIT)


def test_merged_copies_are_those_of_the_review() -> None:
    assert merged_copies(8.0, 8.0) == pytest.approx((7.0, 4.6), abs=0.02)


@pytest.mark.slow
def test_the_software_decides_who_wins_long_contexts_on_16_h200() -> None:
    """Dense by 1.35 in any layout, the MoE (0.83) in those that vLLM runs."""
    assert found(H200 | AT_128K) == pytest.approx(1.35, rel=REFIT)
    assert found(H200 | AT_128K | VLLM) == pytest.approx(0.83, rel=REFIT)


@pytest.mark.slow
def test_the_shape_decides_as_in_the_review() -> None:
    for shape, theirs, near in ((RELEASED, 0.86, REFIT), (GQA8, 0.44, 3.0 * REFIT)):
        assert found(H200 | AT_128K | shape) == pytest.approx(theirs, rel=near)


@pytest.mark.slow
def test_redundant_experts_help_the_moe_on_a_rack() -> None:
    """The review has 1.02 with them; ours is higher (see the page), and lower than without."""
    bare, filled = found(RACK), found(RACK | SLOTS)
    assert bare is not None and filled is not None
    assert 1.02 < filled < 0.95 * bare


@pytest.mark.slow
def test_gpt_oss_on_b200_wins_with_all_choices_of_today() -> None:
    assert ratio(Question(**OSS))[1] == "moe wins"


@pytest.mark.parametrize("devices", [3, 6, 7])
def test_any_number_of_devices_is_no_worse_than_the_nearest_that_divides(devices: int) -> None:
    """Eight experts: with places for copies seven devices do what four do, and with every freedom
    what fewer freedoms do.
    """
    model = load_model("mixtral-8x7b")

    def best(count: int, rules: LayoutRules) -> float:
        cluster = load_cluster(f"{count}xh100")
        return throughput_of(model, model, Service(cluster, Workload(8192.0), ideal(), rules))

    free, bare = LayoutRules(dcp=1), LayoutRules(dcp=1, expert_slots=0)
    divisor = max(size for size in (1, 2, 4) if size <= devices)
    assert best(devices, free) >= best(divisor, bare)
    assert best(devices, free) >= best(devices, bare)
    assert best(devices, LayoutRules()) >= best(devices, free)
