"""All laws side by side, and the draws behind the probability that dense wins."""

import numpy as np
import pytest

from qsopt import Workload, belief, load_cluster, load_efficiency, load_model
from qsopt.arrays import scalar
from qsopt.comparison.compare import Comparison, settle
from qsopt.comparison.duel import Duel
from qsopt.comparison.odds import OPERATOR_SPREAD, odds
from qsopt.comparison.opinions import opinions
from qsopt.fitted.spread import LEVELS
from qsopt.quality import QDistribution
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Case = tuple[Model, Service, Comparison, Duel]


@pytest.fixture(scope="module")
def case() -> Case:
    model = load_model("mixtral-8x7b")
    service = Service(load_cluster("4xh100"), Workload(8192), load_efficiency("fitted"))
    q = belief(model, "geometric", None, raw=True).q
    return model, service, *settle(model, service, scalar(q))


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but q is uncertain."""
    for spread in ("OPERATOR", "RATIO", "RESERVE", "UTILIZATION"):
        monkeypatch.setattr(f"qsopt.comparison.odds.{spread}_SPREAD", 1e-9)


def test_opinions_agree_with_compare(case: Case) -> None:
    model, service, result, duel = case
    rows = {each.law: each for each in opinions(model, 2e12, service, duel)}
    assert rows["geometric"].ratio == pytest.approx(float(result.ratio), rel=1e-12)
    assert rows["geometric"].verdict == result.verdict
    assert rows["geometric"].warnings == ("never fitted: a rule of thumb",)
    tian, _ = settle(model, service, scalar(rows["tian"].q), moe=duel.moe)
    assert rows["tian"].ratio == pytest.approx(float(tian.ratio), rel=1e-12)
    assert any(
        text.startswith("extrapolates: total parameters 46.7e9, fitted up to 28e9")
        for text in rows["tian"].warnings
    )
    assert rows["abnar"].q is None and rows["abnar"].verdict is None
    assert any(text.startswith("unphysical") for text in rows["abnar"].warnings)
    assert {each.law for each in rows.values() if each.in_band} == {
        "ludziejewski",
        "geometric",
        "tian",
    }


@pytest.mark.usefixtures("certain")
def test_odds_are_certain_without_spread(case: Case) -> None:
    """With next to no spread, q alone decides, on either side of the break-even."""
    model, service, result, duel = case
    flip = float(result.break_even_q)
    for factor, expected in ((0.98, 1.0), (1.02, 0.0)):
        known = QDistribution(np.log(flip * factor), 1e-9, 6.0)
        assert float(odds(model, service, duel, known, draws=16).dense_wins) == expected


@pytest.mark.usefixtures("certain")
def test_odds_follow_the_distribution_of_q(case: Case) -> None:
    """Without other error the probability that dense wins is that of a q below the break-even."""
    model, service, result, duel = case
    centred = QDistribution(np.log(float(result.break_even_q)) - 0.1, 0.3, 6.0)
    won = float(odds(model, service, duel, centred, draws=512).dense_wins)
    assert won == pytest.approx(
        float(centred.probability_below(float(result.break_even_q))), abs=0.06
    )


def test_odds_are_seeded_and_spread(case: Case) -> None:
    model, service, _, duel = case
    held = belief(model, "geometric", None)
    assert held.distribution is not None
    first, again, other = (
        odds(model, service, duel, held.distribution, seed, draws=64) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.ratio, again.ratio)
    assert not np.array_equal(first.ratio, other.ratio)
    assert 0.5 * OPERATOR_SPREAD < float(np.std(np.log(first.ratio))) < 1.0


def test_odds_take_the_errors_of_measured_servers_where_there_are_some(case: Case) -> None:
    """Draws of the ratio have the quantiles of its measured errors; operators are in them."""
    model, service, _, duel = case
    errors = np.array([-0.3, -0.1, 0.05, 0.2, 0.6])
    drawn = odds(model, service, duel, 2.0, draws=512, ratio_errors=errors).ratio
    middle = np.log(drawn) - np.log(float(np.median(drawn)))
    np.testing.assert_allclose(np.quantile(middle, LEVELS), errors - 0.05, atol=0.08)
    sure = odds(model, service, duel, 2.0, draws=64, ratio_errors=1e-9 * errors)
    assert float(sure.dense_wins) in (0.0, 1.0)
