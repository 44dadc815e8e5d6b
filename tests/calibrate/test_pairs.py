"""Pairs of measured results of an MoE and a dense model, and the page about them."""

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.pages.measured_pairs import PAGE, pairs_at_one_load, pairs_at_their_best, row
from experiments.pages.measured_sides import PACED, PUBLISHED, RUNS, Measured, Side
from qsopt.fitted.spread import Pairs

SHARED = Path(__file__).parents[2].parent / "shared"

SPREAD = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])


def side(model: str, moe: bool, rate: float, served: float, **other) -> Side:
    """A result of 4 devices at 16 sequences."""
    one = Side(
        kind=RUNS,
        model=model,
        moe=moe,
        accelerator="h100",
        software="vllm",
        source="list",
        precision="fp8",
        lengths="1024|512",
        devices=4.0,
        batch=16.0,
        tpot=0.02,
        rate=rate,
        served_tpot=0.02,
        served=served,
        decode=2.0 * served,
        quantiles=SPREAD,
    )
    return replace(one, **other)


def measured(*sides: Side) -> Measured:
    return Measured(sides, {(PUBLISHED, ""): Pairs(0.0, 0.0, 10, 1)})


def test_only_results_at_one_load_meet():
    found = measured(
        side("moe", True, 100.0, 80.0),
        side("dense", False, 150.0, 150.0),
        side("dense", False, 999.0, 1.0, batch=32.0),
        side("dense", False, 999.0, 1.0, devices=8.0),
        side("dense", False, 999.0, 1.0, software="sglang"),
        side("dense", False, 999.0, 1.0, lengths="1024|1024"),
        side("dense", False, 999.0, 1.0, kind=PACED),
    )
    (pair,) = pairs_at_one_load(found)
    assert pair.measured == pytest.approx(1.5)
    assert pair.served == pair.decode == pytest.approx(150.0 / 80.0)
    assert pair.moe_error == pytest.approx(np.log(0.8))
    assert pair.dense_error == pytest.approx(0.0)
    # log(1.5 / 1.875) = -0.22 within -sqrt(2) 0.2 = -0.28, the ends of two independent errors
    assert pair.inside == 1.0


def test_repeats_are_their_median():
    rates = (100.0, 300.0, 200.0)
    found = measured(
        *(side("moe", True, rate, 200.0) for rate in rates), side("dense", False, 200.0, 200.0)
    )
    (pair,) = pairs_at_one_load(found)
    assert pair.measured == pytest.approx(1.0)


def test_each_side_at_its_best_within_a_limit():
    found = measured(
        side("moe", True, 100.0, 110.0, tpot=0.01, served_tpot=0.01, batch=4.0),
        side("moe", True, 400.0, 300.0, tpot=0.05, served_tpot=0.05, batch=64.0),
        side("dense", False, 200.0, 240.0, tpot=0.01, served_tpot=0.03, batch=8.0),
        side("dense", False, 150.0, 160.0, tpot=0.01, served_tpot=0.01, batch=4.0),
    )
    (free,) = pairs_at_their_best(found, None)
    assert (free.measured, free.served) == pytest.approx((200.0 / 400.0, 240.0 / 300.0))
    (bound,) = pairs_at_their_best(found, 20.0)
    assert (bound.measured, bound.served) == pytest.approx((200.0 / 100.0, 160.0 / 110.0))
    assert not pairs_at_their_best(found, 5.0)


def test_errors_of_pairs():
    found = measured(
        side("moe", True, 100.0, 100.0),
        side("dense", False, 80.0, 120.0),
        side("other", False, 400.0, 200.0),
    )
    summary = row("all", pairs_at_one_load(found))
    assert (summary.pairs, summary.models) == (2, 2)
    assert (summary.low, summary.high) == pytest.approx((0.8, 4.0))
    assert summary.lean == pytest.approx((1.5 * 0.5) ** 0.5)
    assert summary.winner == 0.5
    assert summary.alone_lean == pytest.approx(summary.lean)


@pytest.mark.skipif(not (SHARED / "measured").is_dir(), reason="measured tables are not here")
def test_the_page_has_every_end_to_end_pair():
    """Pairs and their measured ratios counted from the bare table."""
    places = defaultdict(lambda: defaultdict(list))
    with (SHARED / "measured" / "e2e_inferencex.csv").open() as file:
        for line in csv.DictReader(file):
            devices = float(line["tp"]) * float(line["attention_dp"] or 1)
            replicas = max(float(line["n_gpus"]) / devices, 1.0)
            load = (devices, float(line["concurrency"]) / replicas)
            where = tuple(line[name] for name in ("gpu", "backend", "isl", "osl"))
            rate = float(line["out_tok_s_gpu_measured"] or line["out_tok_s_gpu_est"])
            places[where, load][line["model"], line["is_moe"]].append(rate)
    pairs = [
        (moe, np.exp(np.median(np.log(dense)) - np.median(np.log(rates))))
        for models in places.values()
        for (moe, routed), rates in models.items()
        for (_, other), dense in models.items()
        if (routed, other) == ("1", "0")
    ]
    lines = PAGE.read_text().splitlines()
    for name in {moe for moe, _ in pairs}:
        ratios = [ratio for moe, ratio in pairs if moe == name]
        start = f"| end to end: Qwen3-32B over {name} | {len(ratios)} | "
        span = f"{min(ratios):.2f} to {max(ratios):.2f} |"
        assert any(line.startswith(start + span) for line in lines), start + span
