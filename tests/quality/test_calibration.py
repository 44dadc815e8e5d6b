"""Predictive distributions and held-out errors, recomputed with NumPy and SciPy from literal
rows.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from qsopt.errors import InputError
from qsopt.quality import (
    COMBINED,
    CONTROLLED,
    FITTED,
    MATCHES,
    Bound,
    Contract,
    Evidence,
    Geometric,
    Ludziejewski,
    QDistribution,
    Status,
    Tian,
    blend,
    calibrate,
    chosen_inside,
    law,
    leave_one_out,
    power,
    predict,
)
from qsopt.quality.belief import DEFAULT
from qsopt.quality.calibration import location_scale
from qsopt.quality.student import cdf, quantile
from qsopt.quality.validation import held_out

ROWS = (
    ("Ling", 6.11, 17.5, 0.855, 0, 384, 12, 1, 2048, 384, 1),
    ("DeepSeek", 6.9, 16.4, 2.8, 0.419, 64, 6, 2, 2048, 1408, 2),
    ("DeepSeek", 67.4, 144.6, 22.2, 0.839, 128, 12, 4, 4096, 1408, 0.245),
    ("DeepSeek", 67.4, 142.3, 12.2, 0.839, 128, 6, 2, 4096, 1408, 0.245),
    ("Qwen", 7.72, 14.3, 2.69, 0.622, 60, 4, 4, 2048, 1408, 2.1),
    ("Qwen", 14.8, 30.5, 3.3, 0.622, 128, 8, 0, 2048, 768, 36),
    ("Qwen", 27, 122.1, 9.77, 1.526, 256, 8, 1, 3072, 1024, 36),
    ("Ling", 8, 16, 1.4, 0.611, 256, 8, 1, 2048, 512, 20),
    ("Ling", 36, 103, 6.1, 1.288, 256, 8, 1, 4096, 1024, 20),
    ("Liquid AI", 3.5, 8.3, 1.5, 0.134, 32, 4, 0, 2048, 1792, 12),
)
"""Laboratory, dense, total and active parameters, tables [1e9], E, k, shared, hidden, width, tokens
[1e12].
"""
EXACT = tuple(match for match in FITTED if match.is_exact)
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
    (row,) = leave_one_out([law(name)], EXACT)
    single, levels = numpy_held_out(residual, [str(i) for i in range(len(ROWS))])
    laboratory, _ = numpy_held_out(residual, [row[0] for row in ROWS])
    assert row.n == len(ROWS)
    assert row.bias == pytest.approx(np.exp(-residual.mean()), rel=1e-9)
    assert row.rms_raw == pytest.approx(np.exp(np.sqrt(np.mean(residual**2))), rel=1e-9)
    assert row.rms == pytest.approx(single, rel=1e-9)
    assert row.rms_laboratory == pytest.approx(laboratory, rel=1e-9)
    assert row.coverage80 == np.mean(np.array(levels) <= 0.8)


def test_bias_of_the_laws_on_the_first_seven_matches() -> None:
    """Known from the rounded counts: geometric -24 %, Ludziejewski -48 %, rms factor 1.40 and
    2.02.
    """
    later = {"DeepSeekMoE-142B", "Qwen1.5-MoE-A2.7B", "Qwen3.5-122B-A10B"}
    first = [match for match in EXACT if match.moe not in later]
    rows = {row.law: row for row in leave_one_out([Geometric(), Ludziejewski()], first)}
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
    for i in range(len(ROWS)):
        rest = [j for j in range(len(ROWS)) if j != i]
        correction = np.mean([log_q[j] - lookup(j, [k for k in rest if k != j]) for j in rest])
        errors.append(log_q[i] - lookup(i, rest) - correction)
    (row,) = leave_one_out([law("empirical")], EXACT)
    assert row.rms == pytest.approx(np.exp(np.sqrt(np.mean(np.square(errors)))), rel=1e-9)


def test_calibration_is_the_student_prediction_of_one_more_residual() -> None:
    residual, n = numpy_residuals("geometric"), len(ROWS)
    expected = scipy.stats.t(
        n - 1, np.log(671 / 37) / 2 + residual.mean(), residual.std(ddof=1) * np.sqrt(1 + 1 / n)
    )
    distribution = predict(Geometric(), DEEPSEEK_V3, EXACT)
    low, high = distribution.interval(0.9)
    assert [float(low), float(high)] == pytest.approx(np.exp(expected.ppf([0.05, 0.95])), rel=1e-9)
    assert float(distribution.median) == pytest.approx(np.exp(expected.median()), rel=1e-9)
    assert float(distribution.probability_below(5.0)) == pytest.approx(
        expected.cdf(np.log(5)), rel=1e-9
    )
    assert int(distribution.status) == Status.PHYSICAL


def censored(parameters: np.ndarray, residual: np.ndarray, bound: np.ndarray) -> float:
    """Minus the likelihood that `location_scale` maximises, written with SciPy."""
    mean, deviation = parameters[0], np.exp(parameters[1])
    z = (residual - mean) / deviation
    exact = z[bound == 0]
    sides = scipy.stats.norm.logcdf(-(bound * z)[bound != 0])
    return float((len(exact) - 1) * np.log(deviation) + 0.5 * np.sum(exact**2) - np.sum(sides))


@pytest.mark.parametrize("bounds", [(1.3,), (-0.4, 0.9), (2.0, -1.5, 0.1)])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_bounds_enter_by_their_likelihood(bounds: tuple[float, ...], side: float) -> None:
    """Against a general optimiser; the bounds alternate between both sides."""
    exact = np.array([0.1, -0.3, 0.6, 0.2, -0.1, 0.4])
    residual = np.concatenate([exact, bounds])
    bound = np.array([0.0] * len(exact) + [side * (-1) ** i for i in range(len(bounds))])
    best = scipy.optimize.minimize(
        censored, (0.0, -1.0), (residual, bound), "Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000},
    ).x  # fmt: skip
    mean, scale, dof = location_scale(residual, bound)
    assert float(mean) == pytest.approx(best[0], abs=1e-6)
    assert float(scale) == pytest.approx(np.exp(best[1]) * np.sqrt(1 + 1 / 6), rel=1e-6)
    assert float(dof) == 5


def test_a_bound_that_is_met_with_ease_says_nothing_and_one_that_is_broken_pulls() -> None:
    exact = np.array([0.1, -0.3, 0.6, 0.2])

    def fit(value: float, side: float) -> tuple[float, float]:
        residual, bound = np.append(exact, value), np.array([0.0, 0, 0, 0, side])
        mean, scale, _ = location_scale(residual, bound)
        return mean, scale

    mean, scale = exact.mean(), exact.std(ddof=1) * np.sqrt(1.25)
    assert fit(-9.0, 1) == pytest.approx((mean, scale), rel=1e-9)
    assert fit(9.0, -1) == pytest.approx((mean, scale), rel=1e-9)
    assert fit(2.0, 1)[0] > mean and fit(2.0, 1)[1] > scale
    assert fit(-2.0, -1)[0] < mean and fit(-2.0, -1)[1] > scale


def test_held_out_rows_and_bounds_do_not_leak() -> None:
    """What a held-out laboratory observed changes nothing about the prediction of its rows."""
    (lfm,) = [match for match in EXACT if match.laboratory == "Liquid AI"]
    other = dataclasses.replace(lfm, dense_parameters=10 * lfm.dense_parameters)
    rest = [match for match in FITTED if match is not lfm]
    labs = [match.laboratory for match in (*rest, lfm)]
    for each in (Geometric(), power(), law("empirical")):
        first, second = (held_out(each, [*rest, row], labs).error[-1] for row in (lfm, other))
        assert float(second - first) == pytest.approx(np.log(10), rel=1e-9)
    loose = dataclasses.replace(lfm, bound=Bound.AT_LEAST)
    bounded = held_out(Geometric(), [*rest, lfm, dataclasses.replace(loose, moe="b")], [*labs, "b"])
    assert bounded.error.shape == (len(EXACT),)


def test_power_is_least_squares_through_the_origin() -> None:
    log_s = np.log([row[2] / row[3] for row in ROWS])
    log_q = np.log([row[1] / row[3] for row in ROWS])
    (exponent,), (square,), *_ = np.linalg.lstsq(log_s[:, None], log_q, rcond=None)
    error = np.sqrt(square / (len(ROWS) - 1) / np.sum(log_s**2))
    assert float(power().exponent) == pytest.approx(exponent, rel=1e-12)
    assert float(power().standard_error) == pytest.approx(error, rel=1e-12)
    assert exponent == pytest.approx(0.61, abs=0.005)
    assert np.std(log_q / log_s, ddof=1) == pytest.approx(0.10, abs=0.01)


def test_power_is_fitted_anew_for_each_held_out_row() -> None:
    log_s = np.log([row[2] / row[3] for row in ROWS])
    log_q = np.log([row[1] / row[3] for row in ROWS])

    def exponent(rows: list[int]) -> float:
        return float(log_s[rows] @ log_q[rows] / (log_s[rows] @ log_s[rows]))

    errors = []
    for i in range(len(ROWS)):
        rest = [j for j in range(len(ROWS)) if j != i]
        correction = np.mean(
            [log_q[j] - exponent([k for k in rest if k != j]) * log_s[j] for j in rest]
        )
        errors.append(log_q[i] - exponent(rest) * log_s[i] - correction)
    (row,) = leave_one_out([power()], EXACT)
    assert row.rms == pytest.approx(np.exp(np.sqrt(np.mean(np.square(errors)))), rel=1e-9)


def test_the_best_held_out_law_is_the_one_named() -> None:
    """By row and by laboratory; every law is in docs/quality-loo.md."""
    near = [law(name) for name in ("power", "geometric", "ludziejewski", "combined", "empirical")]
    rows = {row.law: row for row in leave_one_out(near)}
    assert min(rows, key=lambda name: rows[name].rms) == DEFAULT
    assert min(rows, key=lambda name: rows[name].rms_laboratory) == DEFAULT
    assert rows["power"].rms == pytest.approx(1.28, abs=0.01)
    assert rows["geometric"].rms == pytest.approx(1.31, abs=0.01)


def test_fewer_matches_widen() -> None:
    wide, narrow = predict(Geometric(), DEEPSEEK_V3, CONTROLLED), predict(Geometric(), DEEPSEEK_V3)
    assert (float(wide.dof), float(narrow.dof)) == (6, 9)
    assert float(wide.quantile(0.95) / wide.median) > float(narrow.quantile(0.95) / narrow.median)
    for few in (MATCHES[:1], [match for match in MATCHES if not match.is_exact]):
        with pytest.raises(InputError, match="two or more"):
            calibrate(Geometric(), few)


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
    """Equal to the error of one law where every fold chooses it, and larger where they differ."""
    near, far = Geometric(), Ludziejewski()
    rms, names = chosen_inside((near, far), FITTED)
    assert set(names) == {"geometric"} and len(names) == len(EXACT)
    assert rms == pytest.approx(leave_one_out([near])[0].rms, rel=1e-9)
    candidates = (far, near, Tian(), COMBINED, blend("low + high", far, Tian()))
    rms, names = chosen_inside(candidates, CONTROLLED)
    assert len(set(names)) > 1
    assert rms > min(row.rms for row in leave_one_out(candidates, CONTROLLED))


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


@pytest.mark.parametrize("dof", [1.0, 2.0, 3.0, 6.0, 9.0, 30.0])
def test_student(dof: float) -> None:
    probabilities = np.array([1e-6, 1e-4, 0.025, 0.1, 0.4, 0.5, 0.8, 0.95, 0.9995])
    found = [quantile(p, dof) for p in probabilities]
    expected = scipy.stats.t.ppf(probabilities, dof)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
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
    assert [round(match.q, 2) for match in EXACT] == [
        7.15, 2.46, 3.04, 5.52, 2.87, 4.48, 2.76, 5.71, 5.9, 2.33
    ]  # fmt: skip
    assert {match.moe: match.bound for match in FITTED if not match.is_exact} == {
        "Qwen3.5-35B-A3B": Bound.AT_MOST,
        "Switch-C": Bound.AT_LEAST,
    }
    assert all(match.evidence is not Evidence.CROSS for match in FITTED)
    assert {match.moe for match in FITTED} - {match.moe for match in CONTROLLED} == {
        "Ling-mini-2.0",
        "Ling-flash-2.0",
        "LFM2-8B-A1B",
    }
    shares = [match.q * float(match.architecture.active_fraction) for match in EXACT]
    assert 0.22 < min(shares) <= max(shares) < 0.54


def test_contracts() -> None:
    """Equal compute buys an MoE more tokens: there its match is no smaller than itself, and it is
    not fitted.
    """
    (compute,) = [match for match in MATCHES if match.contract is Contract.COMPUTE]
    assert compute not in FITTED and compute.bound is Bound.AT_LEAST
    assert compute.q * float(compute.architecture.active_fraction) == pytest.approx(1)
    assert all("recalled" not in match.assumptions for match in MATCHES)
    assert all(
        match.contract is Contract.LOSS for match in MATCHES if match.evidence is Evidence.CROSS
    )


def test_the_layout_of_the_row_at_equal_compute_has_the_ratios_of_its_paper() -> None:
    """4 + 3 mu over all weights and 4 + 3 beta over the active ones, in hidden sizes squared."""
    seen = next(match for match in MATCHES if match.contract is Contract.COMPUTE).architecture
    width = float(seen.expert_width / seen.hidden)
    mu = float(seen.experts + seen.shared_experts) * width
    beta = float(seen.top_k + seen.shared_experts) * width
    assert mu == pytest.approx(22, rel=0.01)
    assert (4 + 3 * beta) / (4 + 3 * mu) == pytest.approx(0.2, rel=0.01)
