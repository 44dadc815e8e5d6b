"""Predictive distributions and held-out errors, recomputed with NumPy and SciPy from literal
rows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from qsopt.errors import InputError
from qsopt.quality import (
    COMBINED,
    CONTROLLED,
    FITTED,
    MATCHES,
    Geometric,
    Kind,
    Ludziejewski,
    QDistribution,
    Status,
    Tian,
    blend,
    calibrate,
    chosen_inside,
    law,
    leave_one_out,
    predict,
)
from qsopt.quality.student import cdf, quantile

ROWS = (
    ("Ling", 6.11, 17.5, 0.855, 0, 384, 12, 1, 2048, 384, 1),
    ("DeepSeek", 6.9, 16.4, 2.8, 0.419, 64, 6, 2, 2048, 1408, 2),
    ("DeepSeek", 67.4, 144.6, 22.2, 0.839, 128, 12, 4, 4096, 1408, 0.245),
    ("Qwen", 14.8, 30.5, 3.3, 0.622, 128, 8, 0, 2048, 768, 36),
    ("Ling", 8, 16, 1.4, 0.611, 256, 8, 1, 2048, 512, 20),
    ("Ling", 36, 103, 6.1, 1.288, 256, 8, 1, 4096, 1024, 20),
    ("Liquid AI", 3.5, 8.3, 1.5, 0.134, 32, 4, 0, 2048, 1792, 12),
)
"""Laboratory, dense, total and active parameters, tables [1e9], E, k, shared, hidden, width, tokens
[1e12].
"""
DEEPSEEK_V3 = next(match for match in MATCHES if match.moe == "DeepSeek-V3").architecture
SWITCH = next(match for match in MATCHES if match.moe == "Switch-C")


def numpy_residuals(name: str) -> np.ndarray:
    """log q_obs - log q_law of the rows, from formulas written out again."""
    _, dense, total, active, tables, e, k, shared, hidden, width, tokens = zip(*ROWS, strict=True)
    dense, total, active, tables, tokens = (
        np.array(x) * 1e9 for x in (dense, total, active, tables, tokens)
    )
    ratio = (np.array(k) + shared) / (np.array(e) + shared)
    geometric = 0.5 * np.log(total / active)
    g = np.log2(2 * np.array(hidden) / width)
    compute = 6 * (active - tables) * 1e3 * tokens
    tian = (1.23 - 0.0761 * np.log10(compute) + 0.0167 * g**2 - 0.117 * g) * np.log(ratio + 0.0163)
    return (
        np.log(dense / active)
        - {"geometric": geometric, "tian": tian, "combined": (geometric + tian) / 2}[name]
    )


def numpy_held_out(residual: np.ndarray, groups: list[str]) -> tuple[float, list[float]]:
    errors, levels = [], []
    for i, group in enumerate(groups):
        rest = residual[[other != group for other in groups]]
        errors.append(residual[i] - rest.mean())
        scale = rest.std(ddof=1) * np.sqrt(1 + 1 / len(rest))
        levels.append(1 - 2 * scipy.stats.t.sf(abs(errors[-1]) / scale, len(rest) - 1))
    return float(np.exp(np.sqrt(np.mean(np.square(errors))))), levels


@pytest.mark.parametrize("name", ["geometric", "tian", "combined"])
def test_held_out_errors(name: str) -> None:
    residual = numpy_residuals(name)
    (row,) = leave_one_out([law(name)])
    single, levels = numpy_held_out(residual, [str(i) for i in range(7)])
    laboratory, _ = numpy_held_out(residual, [row[0] for row in ROWS])
    assert row.n == 7
    assert row.bias == pytest.approx(np.exp(-residual.mean()), rel=1e-9)
    assert row.rms_raw == pytest.approx(np.exp(np.sqrt(np.mean(residual**2))), rel=1e-9)
    assert row.rms == pytest.approx(single, rel=1e-9)
    assert row.rms_laboratory == pytest.approx(laboratory, rel=1e-9)
    assert row.coverage80 == np.mean(np.array(levels) <= 0.8)


def test_published_bias_of_the_laws() -> None:
    """Known from the rounded counts: geometric -24 %, Ludziejewski -48 %, rms factor 1.40 and
    2.02.
    """
    rows = {row.law: row for row in leave_one_out([Geometric(), Ludziejewski()])}
    assert rows["geometric"].bias == pytest.approx(0.76, abs=0.01)
    assert rows["geometric"].rms_raw == pytest.approx(1.40, abs=0.01)
    assert rows["ludziejewski"].bias == pytest.approx(0.52, abs=0.01)
    assert rows["ludziejewski"].rms_raw == pytest.approx(2.02, abs=0.01)


def test_empirical_never_sees_the_row_it_predicts() -> None:
    """Held out, a row's neighbours predict it; their own residuals leave out both."""
    log_s = np.array([np.log(row[3] / row[2]) for row in ROWS])
    log_q = np.array([np.log(row[1] / row[3]) for row in ROWS])

    def lookup(index: int, rows: list[int]) -> float:
        weights = np.exp(-0.5 * ((log_s[rows] - log_s[index]) / np.log(2)) ** 2)
        return float(weights @ log_q[rows] / weights.sum())

    errors = []
    for i in range(7):
        rest = [j for j in range(7) if j != i]
        correction = np.mean([log_q[j] - lookup(j, [k for k in rest if k != j]) for j in rest])
        errors.append(log_q[i] - lookup(i, rest) - correction)
    (row,) = leave_one_out([law("empirical")])
    assert row.rms == pytest.approx(np.exp(np.sqrt(np.mean(np.square(errors)))), rel=1e-9)


def test_calibration_is_the_student_prediction_of_one_more_residual() -> None:
    residual = numpy_residuals("geometric")
    expected = scipy.stats.t(
        6, np.log(671 / 37) / 2 + residual.mean(), residual.std(ddof=1) * np.sqrt(8 / 7)
    )
    distribution = predict(Geometric(), DEEPSEEK_V3)
    low, high = distribution.interval(0.9)
    assert [float(low), float(high)] == pytest.approx(np.exp(expected.ppf([0.05, 0.95])), rel=1e-9)
    assert float(distribution.median) == pytest.approx(np.exp(expected.median()), rel=1e-9)
    assert float(distribution.probability_below(5.0)) == pytest.approx(
        expected.cdf(np.log(5)), rel=1e-9
    )
    assert int(distribution.status) == Status.PHYSICAL


def test_fewer_matches_widen() -> None:
    wide, narrow = predict(Geometric(), DEEPSEEK_V3, CONTROLLED), predict(Geometric(), DEEPSEEK_V3)
    assert float(wide.dof) == 3
    assert float(wide.quantile(0.95) / wide.median) > float(narrow.quantile(0.95) / narrow.median)
    with pytest.raises(InputError, match="two or more"):
        calibrate(Geometric(), MATCHES[:1])


def test_a_blend_widens_where_its_laws_part_further_than_on_the_matches() -> None:
    calibrated = calibrate(COMBINED)
    assert float(calibrated.predict(FITTED[0].architecture).log_scale) == pytest.approx(
        float(calibrated.scale)
    )
    gap = (
        np.log(float(Geometric().q(SWITCH.architecture)) / float(Tian().q(SWITCH.architecture))) / 2
    )
    expected = np.sqrt(
        float(calibrated.scale) ** 2 + gap**2 - float(calibrated.tested_disagreement)
    )
    assert float(calibrated.predict(SWITCH.architecture).log_scale) == pytest.approx(expected)


def test_choosing_inside_the_folds() -> None:
    low, mid, high = Ludziejewski(), Geometric(), Tian()
    candidates = (low, mid, high, COMBINED, blend("low + high", low, high))
    rms, names = chosen_inside(candidates, FITTED)
    assert set(names) == {"combined"}
    assert rms == pytest.approx(leave_one_out([COMBINED])[0].rms, rel=1e-9)
    assert chosen_inside(candidates, CONTROLLED)[0] > leave_one_out([COMBINED], CONTROLLED)[0].rms


def test_unphysical_laws_say_so_in_the_prediction() -> None:
    assert int(predict(law("abnar"), DEEPSEEK_V3).status) == Status.EXCEEDS_TOTAL


def test_prediction_is_differentiable_and_batches() -> None:
    calibrated = calibrate(COMBINED)

    def log_high(tokens: jax.Array) -> jax.Array:
        architecture = eqx.tree_at(lambda a: a.tokens, DEEPSEEK_V3, tokens)
        return jnp.log(calibrated.predict(architecture).interval(0.8)[1])

    at, step = jnp.float64(15e12), 1e8
    numeric = (log_high(at + step) - log_high(at - step)) / (2 * step)
    assert float(jax.jit(jax.grad(log_high))(at)) == pytest.approx(float(numeric), rel=1e-5)
    assert jax.vmap(log_high)(jnp.array([1e12, 15e12])).shape == (2,)


@pytest.mark.parametrize("dof", [1.0, 3.0, 6.0, 30.0])
def test_student(dof: float) -> None:
    probabilities = np.array([1e-4, 0.025, 0.1, 0.4, 0.5, 0.8, 0.95, 0.9995])
    found = [float(quantile(p, dof)) for p in probabilities]
    expected = scipy.stats.t.ppf(probabilities, dof)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(lambda x: cdf(x, jnp.float64(dof)))(jnp.asarray(expected)),
        probabilities,
        rtol=1e-9,
    )
    slope = jax.vmap(jax.grad(lambda x: cdf(x, jnp.float64(dof))))(jnp.asarray(expected))
    np.testing.assert_allclose(slope, scipy.stats.t.pdf(expected, dof), rtol=1e-7)


def test_samples_follow_the_distribution() -> None:
    distribution = QDistribution(np.log(4.0), 0.2, 6.0)
    draws = distribution.sample(0, 20000)
    low, high = distribution.interval(0.8)
    assert float(np.mean((draws > float(low)) & (draws < float(high)))) == pytest.approx(
        0.8, abs=0.01
    )
    assert float(np.median(draws)) == pytest.approx(4, rel=0.01)


def test_choice_of_matches() -> None:
    assert [round(match.q, 2) for match in FITTED] == [7.15, 2.46, 3.04, 4.48, 5.71, 5.9, 2.33]
    assert all(match.kind is not Kind.CROSS and not match.lower_bound for match in FITTED)
    assert {match.moe for match in FITTED} - {match.moe for match in CONTROLLED} == {
        "Ling-mini-2.0",
        "Ling-flash-2.0",
        "LFM2-8B-A1B",
    }
    shares = [match.q * float(match.architecture.active_fraction) for match in FITTED]
    assert 0.34 < min(shares) <= max(shares) < 0.51
