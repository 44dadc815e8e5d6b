"""How sure a design is: draws of the law's error and of predicted speeds, fronts, and marks."""

import numpy as np
import pytest

from qsopt import law, load_model
from qsopt.proposals.architecture import as_row
from qsopt.proposals.bodies import body_of
from qsopt.proposals.fronts import (
    QUALITY,
    SPEED,
    TRAINING,
    Front,
    Segment,
    distance,
    diverse,
    front,
    leaders,
)
from qsopt.proposals.goals import Wanted, as_good_as, quality_of
from qsopt.proposals.judgement import robustness
from qsopt.proposals.opinions import (
    CURVE,
    DRAWS,
    DesignOpinion,
    goals_by_law,
    law_errors,
    noise,
    probability,
    speeds,
)
from qsopt.proposals.points import Point, State, Target
from qsopt.proposals.sizing import judged

MIXTRAL = load_model("mixtral-8x7b")
BODY = body_of(MIXTRAL)
GOAL = as_good_as(MIXTRAL, law("power"), None)


def point(throughput: float, tpot: float = 0.02, **sizes: float) -> Point:
    numbers = {"layers": 32, "hidden": 4096, "kv": 8, "experts": 8, "top_k": 2, "shared": 0,
               "leading": 0, "width": 14336, **sizes}  # fmt: skip
    row = as_row(numbers)
    quality = judged(row[None], GOAL, BODY)
    one = type(quality)(*(float(np.asarray(getattr(quality, name))[0]) for name in vars(quality)))
    family = "moe" if numbers["experts"] > numbers["top_k"] else "dense"
    return Point(family, row, throughput, 0.05, 1.0, 1.0, tpot, one)


def test_law_errors_have_the_calibrated_spread() -> None:
    errors = law_errors(GOAL, 0)
    assert errors.shape == (DRAWS,)
    assert abs(np.median(errors)) < 0.05 * errors.std() + 0.02
    assert (errors == law_errors(GOAL, 0)).all()
    assert (errors != law_errors(GOAL, 1)).any()


def test_equal_designs_tie_and_better_ones_win_more_often() -> None:
    curve = np.log(1000.0 / np.array(CURVE))
    errors, none = law_errors(GOAL, 0), np.zeros(DRAWS)
    spread = 0.2 * np.random.default_rng(0).normal(size=DRAWS)
    level = float(np.log(1000.0))
    assert probability((curve, 0.7), (level, 0.7), errors, spread) == pytest.approx(0.5, abs=0.05)
    shares = [
        probability((curve + gain, 0.7), (level, 0.7), errors, spread) for gain in (-0.3, 0, 0.3)
    ]
    assert shares == sorted(shares)
    assert probability((curve + 0.1, 0.7), (level, 0.7), errors, none) == 1.0
    # a sparser design leans on the law, so its gain is less sure
    sure = probability((curve + 0.2, 0.7), (level, 0.7), errors, spread)
    unsure = probability((curve + 0.2, 2.0), (level, 0.7), errors, spread)
    assert unsure < sure
    nothing = np.full(len(CURVE), -np.inf)
    assert probability((nothing, 0.7), (level, 0.7), errors, spread) == 0.0


def test_speeds_follow_the_curve_and_end_with_it() -> None:
    curve = np.array([-np.inf, *np.log([9.0, 8.0, 7.0, 6.0, 5.0, 4.0])])
    at = speeds(curve, np.log([0.5, 1.0, 2.8, 100.0]))
    assert np.exp(at) == pytest.approx([9.0, 7.0, 4.0, 4.0])


def test_errors_of_two_sides_are_those_of_measured_servers() -> None:
    same = noise(("moe", 64, 8), ("moe", 64, 8), "h100", 0)
    mixed = noise(("moe", 64, 8), ("dense", 64, 8), "h100", 0)
    assert 0.02 < same.std() < 0.6
    assert abs(np.median(same)) < 0.05
    back = noise(("dense", 64, 8), ("moe", 64, 8), "h100", 0)
    assert np.median(mixed) == pytest.approx(-np.median(back), abs=0.05)


def test_laws_that_cannot_say_are_left_out() -> None:
    known = goals_by_law(Wanted(MIXTRAL, None))
    assert "power" in known
    assert "tian" not in known  # needs training tokens
    assert "tian" in goals_by_law(Wanted(MIXTRAL, 2e12))
    dense = load_model("llama-3.1-70b")
    for goal in goals_by_law(Wanted(dense, 15e12)).values():
        assert float(quality_of(dense, goal).margin) == pytest.approx(0.0, abs=1e-9)


def test_robust_is_the_best_least_and_the_best_median() -> None:
    def view(*values: float) -> list[DesignOpinion]:
        return [DesignOpinion(f"law{n}", 0.0, 1.0, value) for n, value in enumerate(values)]

    table = robustness([view(10, 1, 9, np.nan), view(5, 5, 5, 7)])
    assert table.tolist() == [[0.0, 5.0], [5.0, 5.0]]  # one law has no width for the first
    assert len(robustness([])) == 0


def test_front_holds_what_nothing_beats() -> None:
    fast, cheap = point(100, 0.010), point(200, 0.020)
    beaten, useless = point(90, 0.015), point(0, 0.001)
    found = front([beaten, fast, useless, cheap], SPEED)
    assert [each.throughput for each in found] == [200, 100]
    better, worse = point(50, width=16384), point(60)
    assert [each.throughput for each in front([better, worse], QUALITY)] == [60, 50]
    assert [each.throughput for each in front([better, worse], TRAINING)] == [60]


def test_diverse_designs_differ() -> None:
    near, far = point(99, width=14464), point(50, experts=64, width=2048)
    dense = point(10, experts=1, top_k=1, width=28672)
    chosen = diverse([near, point(100), far, dense], 3)
    assert [each.throughput for each in chosen] == [100, 50, 10]
    assert distance(far, dense) == float("inf")


def test_state_keeps_the_best_of_all_tracks() -> None:
    state, base, track = State(None), Target("moe", 0.05), Target("moe", 0.05, track=2)  # pyright: ignore[reportArgumentType]
    assert state.note(track, point(10))
    assert state.best[base].throughput == 10
    assert state.note(base, point(20, layers=33))
    assert state.best[track].throughput == 10
    assert not state.note(track, point(0, layers=34))
    assert len(state.points) == 3


def test_leaders_are_the_families_that_serve_most_at_each_speed() -> None:
    def fronts(moe: dict[float, float], dense: dict[float, float]) -> list[Front]:
        """From tokens/s of a user and throughput of each design."""
        return [
            Front(family, tuple(point(rate, 1.0 / user) for user, rate in each.items()))
            for family, each in (("moe", moe), ("dense", dense))
        ]

    both = fronts({10: 900.0, 40: 300.0}, {20: 600.0, 50: 300.0, 80: 100.0})
    expected = (Segment(0, 10, "moe"), Segment(10, 80, "dense"))  # at 40 both serve 300
    told = leaders(both)
    assert [each.family for each in told] == [each.family for each in expected]
    for one, other in zip(told, expected, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))
    again = leaders(fronts({10: 900.0, 100: 90.0}, {20: 600.0, 80: 100.0}))
    assert [each.family for each in again] == ["moe", "dense", "moe"]
    assert [each.high for each in again] == pytest.approx([10, 80, 100])
    for each in again:  # by brute force at a speed inside of each segment
        speed = 0.5 * (each.low + each.high)
        rates = {"moe": 900.0 if speed <= 10 else 90.0, "dense": 600.0 if speed <= 20 else 100.0}
        rates["dense"] *= speed <= 80
        assert max(rates, key=lambda name: rates[name]) == each.family
    assert leaders(fronts({}, {})) == ()
    assert leaders(()) == ()
