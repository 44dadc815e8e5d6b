"""Reuse fragmentation and stragglers: how many experts a batch hits, and how uneven the ranks are.

T tokens each pick k of E experts. The first hits k; each of the others misses an expert with
probability 1 - k/E, so the experts hit are

    E_hit = k + (E - k) (1 - (1 - k/E)^(T-1)),  which is E (1 - (1 - k/E)^T).

With gamma-distributed popularity of squared coefficient of variation c the survival (1 - k/E)^n
becomes (1 - c n ln(1 - k/E))^(-1/c), which tends to it as c -> 0, and one token still hits k.

What the ranks see are counts: experts hit, and token rows. The busiest of e ranks is the expected
maximum of e independent counts of the Panjer class (binomial, Poisson or negative binomial, by mean
and variance; Panjer 1981). Independence with the variance of an unconditioned count stands for
counts of a fixed sum with their smaller one: simulated maxima at 1, 2 and 4 tokens on up to 64
ranks are within 3 % (5 % for rows of two experts of eight). Ignored: correlation between the tokens
of one sequence (measured 0.69 of the experts at 4 consecutive tokens).
"""

from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.programs import traced_once

TERMS = 12
"""Terms of the sum for the maximum of small counts."""

FEW, MANY = 2.5, 5.0
"""Mean counts between which the sum gives way to the normal form."""

_TINY = 1e-30


@traced_once
def survival(share: Scalar, times: Scalar, popularity_cv2: Scalar | float = 0.0) -> Scalar:
    """Probability (1 - share)^times that an expert is missed by `times` picks; 0 at share 1.

    Args:
        share: chance of one pick, k/E.
        times: picks, real.
        popularity_cv2: squared coefficient of variation of the experts' popularity.
    """
    certain = share >= 1.0
    exponent = -times * xp.log1p(-xp.where(certain, 0.5, share))
    missed = xp.exp(-exponent * _log1p_over(popularity_cv2 * exponent))
    return xp.where(certain, xp.where(times > 0.0, 0.0, 1.0), missed)


def experts_hit(
    tokens: Scalar, experts: Scalar, top_k: Scalar, popularity_cv2: Scalar | float = 0.0
) -> Scalar:
    """Expected number of distinct experts that `tokens` tokens hit; below one token, in proportion.

    Args:
        tokens: T, tokens entering the layer.
        experts: E, routed experts.
        top_k: k, experts that a token uses.
        popularity_cv2: c, squared coefficient of variation of the experts' popularity; 0 for
            uniform routing.
    """
    others = xp.maximum(tokens - 1.0, 0.0)
    missed = survival(top_k / experts, others, popularity_cv2)
    return xp.minimum(tokens, 1.0) * top_k + (experts - top_k) * (1.0 - missed)


def _log1p_over(x: Scalar) -> Scalar:
    """ln(1 + x) / x for x > -1, continued by its series through x = 0."""
    large = xp.abs(x) > 1e-4
    safe = xp.where(large, x, 1.0)
    return xp.where(large, xp.log1p(safe) / safe, 1.0 - x / 2 + x * x / 3)


@traced_once
def straggler(
    tokens: Scalar,
    experts: Scalar,
    top_k: Scalar,
    ranks: Scalar,
    imbalance_cv2: Scalar | float = 0.0,
    slots: Scalar | None = None,
) -> Scalar:
    """Expected token rows of the busiest expert rank over the mean, T k / e.

    A rank's rows have variance T k/e (E - k)/E by sampling, and c e/E' of the square of their mean
    by the popularity that balancing left, which needs two tokens to show: c (1 - 1/T) (1 - k/E)^2.

    Args:
        tokens: T, tokens entering the layer.
        experts: E.
        top_k: k.
        ranks: e, expert parallel size.
        imbalance_cv2: c, squared coefficient of variation of an expert's popularity left after
            balancing.
        slots: E', places for experts; E if left out. More places even out the ranks.
    """
    places = experts if slots is None else slots
    mean = tokens * top_k / ranks
    choice = xp.maximum(experts - top_k, 0.0) / experts
    pairs = xp.maximum(tokens - 1.0, 0.0) / xp.maximum(tokens, 1.0)
    uneven = imbalance_cv2 * ranks / places * pairs * (choice * mean) ** 2
    peak = expected_peak(mean, mean * choice + uneven, ranks)
    most = tokens * xp.minimum(top_k, xp.maximum(places / ranks, 1.0))
    return xp.maximum(xp.minimum(peak, most) / mean, 1.0)


@traced_once
def busiest_hits(hit: Scalar, experts: Scalar, ranks: Scalar) -> Scalar:
    """Expected number of experts hit on the expert rank where most are.

    Each of the E/e experts of a rank is hit with probability h = E_hit/E: a binomial count. Where
    most are hit, the busiest rank is the one with the fewest missed, and missed ones are counted.
    One token on 8 experts over 4 ranks: 1.13, exactly 8/7.

    Args:
        hit: E_hit, experts hit over all ranks.
        experts: E.
        ranks: e, expert parallel size.
    """
    held, share = experts / ranks, xp.minimum(hit / experts, 1.0)
    mean, variance = held * share, held * share * (1.0 - share)
    most_hit = share > 0.5
    rare = xp.maximum(xp.where(most_hit, held - mean, mean), _TINY)
    few = _scaled_to_few(rare, xp.where(most_hit, share, 1.0 - share) * rare)
    extreme = _extreme_of_few(*few, ranks, most_hit)
    normal = _peak_of_many(mean, variance, ranks)
    peak = _blend(rare, xp.where(most_hit, held - extreme, extreme), normal)
    least = xp.maximum(mean, xp.minimum(hit, 1.0))
    return xp.minimum(xp.maximum(peak, least), xp.maximum(held, mean))


def expected_peak(mean: Scalar, variance: Scalar, count: Scalar) -> Scalar:
    """Expected maximum of `count` independent counts of this mean and variance.

    Small counts: the sum over j of P(maximum > j) = 1 - F(j)^n. Large ones: mean + deviation (z +
    skewness/6 (E[Z_max^2] - 1)) with z the normal maximum (Cornish-Fisher), skewness below 0 left
    out. In between, a blend.
    """
    few = _extreme_of_few(*_scaled_to_few(mean, variance), count, xp.asarray(False))
    return _blend(mean, few, _peak_of_many(mean, variance, count))


def _scaled_to_few(mean: Scalar, variance: Scalar) -> tuple[Scalar, Scalar]:
    """Mean and variance where the sum for small counts is taken."""
    few = xp.minimum(mean, MANY)
    return few, variance * few / mean


def _blend(mean: Scalar, few: Scalar, many: Scalar) -> Scalar:
    """From the form for small counts to the one for large counts."""
    share = xp.clip((mean - FEW) / (MANY - FEW), 0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    return (1.0 - share) * few + share * many


@traced_once
def _extreme_of_few(
    mean: Scalar, variance: Scalar, count: Scalar, lowest: Bool[Array, ""]
) -> Scalar:
    """Expected maximum, or minimum, of small counts: the sum over j of 1 - F(j)^n, or (1 - F(j))^n.

    Panjer's recursion is p(j+1)/p(j) = a + b/(j+1) with mean (a+b)/(1-a), variance (a+b)/(1-a)^2.
    """
    spread = xp.maximum(variance, 1e-6 * mean)
    a = 1.0 - mean / spread
    together = mean * mean / spread
    probability = xp.exp(-together * _log1p_over(-a))
    below, powers = probability, 0.0 * mean
    side, sign = xp.where(lowest, 1.0, 0.0), xp.where(lowest, -1.0, 1.0)
    first = together - a
    for j in range(TERMS):
        kept = side + sign * below
        powers = powers + xp.exp(count * xp.log(xp.maximum(kept, _TINY)))
        probability = probability * xp.maximum(a + first * (1.0 / (j + 1.0)), 0.0)
        below = xp.minimum(below + probability, 1.0)
    return xp.where(lowest, powers, TERMS - powers)


def _peak_of_many(mean: Scalar, variance: Scalar, count: Scalar) -> Scalar:
    deviation = xp.sqrt(xp.maximum(variance, _TINY))
    skewness = xp.maximum((2.0 * variance / mean - 1.0) / deviation, 0.0)
    peak = expected_maximum(count)
    return mean + deviation * (peak + skewness / 6.0 * (_expected_square(count) - 1.0))


def expected_maximum(count: Scalar) -> Scalar:
    """Expected maximum of `count` standard normal numbers, for real counts of 1 and more.

    With l = ln n, z = l (0.90274 + 0.052015 l) / (1 + 0.21044 l + 0.012992 l^1.5), fitted here to
    the exact integrals for n = 1.2 to 4096: within 0.03 %. (sqrt(2 ln n) is 27-109 % too large
    between 32 and 2.)
    """
    log = xp.log(xp.maximum(count, 1.0))
    rising = 0.21044466 * log + 0.01299194 * log * xp.sqrt(log + _TINY)
    return log * (0.90274275 + 0.05201517 * log) / (1.0 + rising)


def _expected_square(count: Scalar) -> Scalar:
    """Expected square of the maximum of `count` standard normal numbers.

    With l = ln n, 1 + l^2 (1.02316 + 0.4325 l) / (1 + 0.68154 l + 0.17299 l^2) - 0.58991 l, fitted
    here to the exact integrals for n = 1 to 4096: within 0.04 %.
    """
    log = xp.log(xp.maximum(count, 1.0))
    rising = log * log * (1.02316301 + 0.43250254 * log)
    return 1.0 + rising / (1.0 + log * (0.68153944 + 0.17299153 * log)) - 0.58991198 * log
