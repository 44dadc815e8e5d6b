"""Experts hit, stragglers and the expected maximum against direct simulation and exact
integrals.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.physics.routing import (
    busiest_hits,
    expected_maximum,
    expected_peak,
    experts_hit,
    straggler,
)

DRAWS = 400
hit = jax.jit(experts_hit)
slowest = jax.jit(straggler)


def of(function, *values: float) -> float:
    return float(function(*(jnp.asarray(float(value)) for value in values)))


def picks(
    rng: np.random.Generator, draws: int, tokens: int, weight: np.ndarray, top_k: int
) -> np.ndarray:
    """Chosen experts, [draws, tokens, experts] of 0 and 1: without replacement, by the Gumbel
    trick.
    """
    keys = np.log(weight)[:, None, :] + rng.gumbel(size=(draws, tokens, weight.shape[-1]))
    threshold = -np.partition(-keys, top_k - 1, axis=-1)[..., top_k - 1 : top_k]
    return keys >= threshold


def popularity(rng: np.random.Generator, draws: int, experts: int, cv2: float) -> np.ndarray:
    return rng.gamma(1.0 / cv2, cv2, size=(draws, experts)) if cv2 else np.ones((draws, experts))


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens"),
    [(8, 2, 1), (8, 2, 3), (8, 2, 40), (64, 6, 5), (64, 6, 30), (256, 8, 16), (128, 1, 100)],
)
def test_uniform_hits_agree_with_simulation(experts: int, top_k: int, tokens: int) -> None:
    rng = np.random.default_rng(experts * tokens)
    counts = (
        picks(rng, DRAWS, tokens, popularity(rng, DRAWS, experts, 0.0), top_k)
        .any(axis=1)
        .sum(axis=-1)
    )
    error = counts.std() / np.sqrt(DRAWS)
    assert of(hit, tokens, experts, top_k) == pytest.approx(counts.mean(), abs=4 * error + 1e-3)


@pytest.mark.parametrize("cv2", [0.1, 0.4, 1.0, 3.0])
@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(64, 4, 10), (64, 4, 60), (256, 8, 64)])
def test_gamma_hits_agree_with_the_poisson_gamma_mixture(
    cv2: float, experts: int, top_k: int, tokens: int
) -> None:
    """Each token after the first misses expert i with probability (1 - k/E)^g_i, g gamma of mean 1:
    the mixture that the formula integrates.
    """
    popular = popularity(np.random.default_rng(7), 4000, experts, cv2)
    missed = ((1.0 - top_k / experts) ** ((tokens - 1) * popular)).mean(axis=-1)
    expected = top_k + (experts - top_k) * (1.0 - missed)
    assert of(hit, tokens, experts, top_k, cv2) == pytest.approx(
        expected.mean(), rel=5 * expected.std() / 4000**0.5 / experts
    )


@pytest.mark.parametrize("cv2", [0.2, 0.4])
@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(64, 4, 10), (64, 4, 60), (256, 8, 48)])
def test_gamma_hits_agree_with_tokens_that_choose_by_popularity(
    cv2: float, experts: int, top_k: int, tokens: int
) -> None:
    """Tokens draw k different experts with gamma weights: at the popularity that is fitted, within
    3 %.
    """
    rng = np.random.default_rng(11)
    counts = (
        picks(rng, 200, tokens, popularity(rng, 200, experts, cv2), top_k).any(axis=1).sum(axis=-1)
    )
    assert of(hit, tokens, experts, top_k, cv2) == pytest.approx(counts.mean(), rel=0.03)


def test_one_token_hits_exactly_its_experts() -> None:
    assert of(hit, 1, 8, 2) == pytest.approx(2.0, rel=1e-14)
    for experts, top_k in [(256, 8), (64, 6), (2048, 1), (512, 10)]:
        assert of(hit, 1, experts, top_k) == pytest.approx(top_k, rel=1e-12)


@pytest.mark.parametrize("experts", [1, 2, 8, 256])
def test_tokens_that_use_every_expert_hit_every_expert(experts: int) -> None:
    for tokens in (1, 2, 50, 1e6):
        assert of(hit, tokens, experts, experts) == pytest.approx(experts, rel=2e-12)


def test_hits_tend_to_the_uniform_form_as_popularity_evens_out() -> None:
    """Continuous through 0 and where the series ends, slope -(E - k) (1 - k/E)^n (n l)^2/2,
    n = T - 1, l = ln(1 - k/E).
    """
    uniform = of(hit, 12, 64, 4)
    previous = uniform
    for cv2 in (1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1.25e-4, 1.35e-4, 1e-3, 1e-2):
        value = of(hit, 12, 64, 4, cv2)
        assert value <= previous + 1e-12
        assert abs(value - uniform) <= 30.0 * cv2
        previous = value
    exponent = -11 * np.log1p(-4 / 64)
    slope = -60 * np.exp(-exponent) * exponent**2 / 2
    assert (of(hit, 12, 64, 4, 1e-7) - uniform) / 1e-7 == pytest.approx(slope, rel=1e-4)
    gradient = jax.grad(experts_hit, argnums=3)(*(jnp.asarray(x) for x in (12.0, 64.0, 4.0, 0.0)))
    assert float(gradient) == pytest.approx(slope, rel=1e-9)


def test_hits_are_bounded_and_grow_with_tokens_and_experts_used() -> None:
    tokens = np.geomspace(1, 1e5, 40)
    for cv2 in (0.0, 0.4, 4.0):
        for top_k in (1, 2, 8, 31):
            values = np.array([of(hit, t, 32, top_k, cv2) for t in tokens])
            assert (np.diff(values) >= -1e-9).all()
            assert (values <= 32).all()
            assert (values <= tokens * top_k * (1 + 1e-12)).all()
            assert of(hit, 9, 32, top_k + 1, cv2) > of(hit, 9, 32, top_k, cv2)


def rank_excess(experts: int, top_k: int, tokens: int, ranks: int, cv2: float = 0.0) -> float:
    """Mean over draws of the most loaded rank's load over the mean load, minus 1."""
    rng, draws = np.random.default_rng(ranks), 1200
    loads = np.zeros((draws, experts))
    for start in range(0, draws, 100):
        weight = popularity(rng, 100, experts, cv2)
        loads[start : start + 100] = picks(rng, 100, tokens, weight, top_k).sum(axis=1)
    per_rank = loads.reshape(draws, ranks, -1).sum(axis=-1)
    return float(per_rank.max(axis=1).mean() / (tokens * top_k / ranks) - 1.0)


@pytest.mark.parametrize(
    ("ranks", "noted", "maximum"), [(2, 0.024, 0.56419), (8, 0.125, 1.42360), (32, 0.371, 2.06967)]
)
def test_straggler_agrees_with_simulation(ranks: int, noted: float, maximum: float) -> None:
    """E = 256, k = 8, 128 tokens: `noted` is the simulation of the reference, 248/256/(128 *
    8/ranks) the variance by hand, to which skewness adds a little.
    """
    excess = of(slowest, 128, 256, 8, ranks) - 1.0
    simulated = rank_excess(256, 8, 128, ranks)
    assert simulated == pytest.approx(noted, rel=0.03)
    assert excess >= maximum * (248 / 256 / (128 * 8 / ranks)) ** 0.5 * (1 - 1e-3)
    assert excess == pytest.approx(simulated, rel=0.03)


@pytest.mark.parametrize("ranks", [4, 16])
def test_straggler_of_uneven_popularity_agrees_with_simulation(ranks: int) -> None:
    """Both causes together, at the unevenness that balancing leaves and ten times that: within 10
    %.
    """
    for cv2 in (0.02, 0.2):
        assert of(slowest, 256, 128, 8, ranks, cv2) - 1.0 == pytest.approx(
            rank_excess(128, 8, 256, ranks, cv2), rel=0.1
        )


def test_no_straggler_where_there_is_nothing_to_be_uneven() -> None:
    for case in ((100, 64, 4, 1), (100, 64, 64, 8), (100, 1, 1, 1)):
        assert of(slowest, *case) == pytest.approx(1.0, rel=1e-12)
    assert of(slowest, 1e12, 64, 4, 8) == pytest.approx(1.0, abs=1e-5)
    assert of(slowest, 1e12, 64, 4, 8, 0.5) == pytest.approx(
        1.0 + of(expected_maximum, 8) * 60 / 64 * (0.5 * 8 / 64) ** 0.5, rel=2e-2
    )


@pytest.mark.parametrize(
    ("count", "exact"),
    [(2, 0.5641896), (4, 1.0293754), (8, 1.4236003), (16, 1.7659914), (32, 2.0696688)],
)
def test_expected_maximum_has_the_tabulated_values(count: int, exact: float) -> None:
    assert of(expected_maximum, count) == pytest.approx(exact, rel=4e-4)


@pytest.mark.parametrize("count", [1.2, 1.7, 3.0, 6.5, 20.0, 72.0, 256.0, 1000.0, 4096.0])
def test_expected_maximum_agrees_with_its_integral(count: float) -> None:
    """E = integral of x n phi(x) Phi(x)^(n-1) dx, for real n too."""
    x = np.linspace(-12.0, 12.0, 200_001)
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    cumulative = np.asarray(jax.scipy.stats.norm.cdf(x))
    exact = np.trapezoid(x * count * density * cumulative ** (count - 1.0), x)
    assert of(expected_maximum, count) == pytest.approx(exact, rel=4e-4)


def test_expected_maximum_of_one_is_nothing() -> None:
    assert of(expected_maximum, 1) == 0.0


def simulated_peaks(
    experts: int, top_k: int, tokens: int, ranks: int, cv2: float
) -> tuple[float, float, float]:
    """Means over draws: experts hit, those of the rank where most are, rows of the busiest rank."""
    rng, hits, most, rows = np.random.default_rng(ranks + tokens), [], [], []
    for _ in range(30):
        weight = popularity(rng, 100, experts, cv2)
        counts = picks(rng, 100, tokens, weight, top_k).sum(axis=1)
        hits.append((counts > 0).sum(axis=-1))
        most.append((counts > 0).reshape(100, ranks, -1).sum(axis=-1).max(axis=1))
        rows.append(counts.reshape(100, ranks, -1).sum(axis=-1).max(axis=1))
    return float(np.mean(hits)), float(np.mean(most)), float(np.mean(rows))


@pytest.mark.parametrize("cv2", [0.0, 0.4])
@pytest.mark.parametrize("ranks", [2, 8, 32, 64])
@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_few_tokens_on_many_ranks_by_simulation(tokens: int, ranks: int, cv2: float) -> None:
    """256 experts, 8 a token: experts hit, busiest rank's experts and rows within 3 %."""
    hits, most, rows = simulated_peaks(256, 8, tokens, ranks, cv2)
    ours = of(hit, tokens, 256, 8, cv2)
    assert ours == pytest.approx(hits, rel=0.03)
    assert ours >= 8.0
    assert of(busiest_hits, ours, 256, ranks) == pytest.approx(most, rel=0.03)
    mean = tokens * 8 / ranks
    assert mean * of(slowest, tokens, 256, 8, ranks, cv2) == pytest.approx(rows, rel=0.03)


@pytest.mark.parametrize(
    ("experts", "top_k", "ranks", "tokens"), [(8, 2, 4, 1), (128, 8, 8, 4), (64, 6, 8, 1)]
)
def test_few_experts_by_simulation(experts: int, top_k: int, ranks: int, tokens: int) -> None:
    """Two experts of eight are the worst case: within 5 %."""
    hits, most, rows = simulated_peaks(experts, top_k, tokens, ranks, 0.0)
    assert of(busiest_hits, hits, experts, ranks) == pytest.approx(most, rel=0.05)
    mean = tokens * top_k / ranks
    assert mean * of(slowest, tokens, experts, top_k, ranks) == pytest.approx(rows, rel=0.05)


@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.3), (2.0, 1.2), (3.5, 5.0), (40.0, 30.0)])
@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_expected_peak_is_that_of_independent_counts(
    mean: float, variance: float, count: int
) -> None:
    """Poisson, binomial and negative binomial counts, sampled; one count has its own mean."""
    rng = np.random.default_rng(5)
    if variance < mean:
        share = 1.0 - variance / mean
        draws = rng.binomial(round(mean / share), share, size=(20000, count))
        mean, variance = round(mean / share) * share, round(mean / share) * share * (1 - share)
    elif variance > mean:
        share = mean / variance
        draws = rng.negative_binomial(mean * share / (1 - share), share, size=(20000, count))
    else:
        draws = rng.poisson(mean, size=(20000, count))
    simulated = draws.max(axis=1)
    peak = of(expected_peak, mean, variance, count)
    assert peak == pytest.approx(simulated.mean(), rel=0.015, abs=4 * simulated.std() / 20000**0.5)


def test_more_places_than_experts_even_out_the_ranks() -> None:
    excess = [of(slowest, 512, 256, 8, 64, 0.4, slots) for slots in (256, 288, 320, 512)]
    assert excess == sorted(excess, reverse=True)
    assert excess[-1] < excess[0]
