"""Which experts a benchmark of aiconfigurator hits: its own routings, drawn again.

Its tables name a distribution and do not say how many experts were read on the measured rank, which
is what decides the time of a small batch. `balanced` (also called `uniform`) takes every
ceil(E/k)-th expert, shifted by one for each token. A power law draws a load for every expert by
inverse transform of x^-alpha on [0.01, 2], or on [1, 0.8 tokens] once there are more token rows
than experts; scales and rounds the loads to k tokens, at most all tokens each; spreads what
rounding left, rank by rank, over the least loaded experts (or takes it from the most loaded); and
measures the rank with most rows. Earlier releases gave what rounding left to the most loaded
experts, in their order. With EPLB the busiest experts are copied into spare slots, and the slots
are dealt, busiest first, to the least loaded rank with room.

Source: collector/helper.py of github.com/ai-dynamo/aiconfigurator (Apache-2.0), functions
balanced_logits, _generate_power_law_distribution, compute_eplb, and power_law_logits_v3 as it was
in collect_moe.py. The draws are not recorded, so these are means over draws of our own.
"""

import heapq
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

DRAWS = 12
"""Draws of a power law that are averaged."""

Loads = Int[np.ndarray, "draws ranks experts"]


MOST_ROWS = 2**24
"""Token rows, experts and places that no benchmark goes beyond; all are drawn in memory."""


class Routed(NamedTuple):
    """Work of the measured rank, mean over draws."""

    hit: float
    """Experts, or slots, with any token."""
    rows: float
    """Token rows."""
    fullest: float
    """Rows of the fullest expert."""


@cache
def routed(
    distribution: str,
    tokens: int,
    experts: int,
    top_k: int,
    ranks: int,
    slots: int = 0,
    hottest: bool = False,
) -> Routed | None:
    """Work of the rank that was measured, or None for a distribution without a rule here, or sizes
    that no layer has.

    Args:
        distribution: `balanced`, `uniform` or `power_law_<alpha>`, the last also with `_eplb`.
        tokens: of the whole expert parallel group.
        experts: E.
        top_k: k.
        ranks: expert parallel size.
        slots: places for experts with EPLB; as many as experts if 0.
        hottest: whether what rounding left went to the most loaded experts, as in earlier releases
            without EPLB.
    """
    if not _is_layer(tokens, experts, top_k, ranks, slots):
        return None
    if distribution in ("balanced", "uniform"):
        return _measured(
            _balanced(tokens, experts, top_k).reshape(1, ranks, -1), np.zeros(1, dtype=int)
        )
    alpha = distribution.removeprefix("power_law_").removesuffix("_eplb")
    if not distribution.startswith("power_law_") or not alpha.replace(".", "", 1).isdigit():
        return None
    if float(alpha) == 1.0:  # where the inverse of the distribution has another form
        return None
    balanced = distribution.endswith("_eplb")
    loads = _power_law(
        tokens, experts, top_k, 1 if balanced else ranks, float(alpha), hottest and not balanced
    )
    if balanced:
        loads = np.stack([_placed(one.ravel(), slots or experts, ranks) for one in loads])
    return _measured(loads, np.argmax(loads.sum(axis=2), axis=1))


def _is_layer(tokens: int, experts: int, top_k: int, ranks: int, slots: int) -> bool:
    """Whether a layer has such sizes, spread evenly over its ranks."""
    if min(tokens, top_k, ranks) < 1 or slots < 0 or top_k > experts:
        return False
    even = experts % ranks == 0 and (slots or experts) % ranks == 0
    return even and max(tokens * top_k, experts, slots) <= MOST_ROWS


def _measured(loads: np.ndarray, rank: Int[np.ndarray, " draws"]) -> Routed:
    """What the chosen rank of every draw does; a slot that shares a single row has it in some
    draws.
    """
    one = loads[np.arange(len(loads)), rank]
    work = np.minimum(one, 1.0).sum(axis=1), one.sum(axis=1), one.max(axis=1)
    return Routed(*(float(np.mean(part)) for part in work))


def _balanced(tokens: int, experts: int, top_k: int) -> Int[np.ndarray, " experts"]:
    stride = -(-experts // top_k)
    shift = np.arange(tokens) * (1.0 if tokens >= stride else stride / tokens)
    chosen = (shift[:, None] + np.arange(top_k) * stride) % experts
    return np.bincount(chosen.astype(int).ravel(), minlength=experts)


def _power_law(
    tokens: int, experts: int, top_k: int, ranks: int, alpha: float, hottest: bool
) -> Loads:
    rows = tokens * top_k
    low, high = (1.0, 0.8 * tokens) if rows > experts else (0.01, 2.0)
    chance = np.random.default_rng([tokens, experts, top_k, ranks]).random(
        (DRAWS, ranks, experts // ranks)
    )
    ends = low ** (1.0 - alpha), high ** (1.0 - alpha)
    drawn = ((ends[1] - ends[0]) * chance + ends[0]) ** (1.0 / (1.0 - alpha))
    wanted = np.round(drawn / drawn.sum(axis=(1, 2), keepdims=True) * rows).astype(int)
    loads = np.minimum(wanted, tokens)
    missing = rows - loads.sum(axis=(1, 2))
    if hottest:
        loads = _heaped(loads, missing)
        missing = np.minimum(missing, 0)
    return _adjusted(_adjusted(loads, missing, 1, tokens), -missing, -1, tokens)


def _heaped(loads: Loads, count: Int[np.ndarray, " draws"]) -> Loads:
    """One row more for each of the `count` most loaded experts of every draw; equal ones in their
    order.
    """
    flat = loads.reshape(len(loads), -1)
    place = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1)
    return (flat + (place < count[:, None])).reshape(loads.shape)


def _adjusted(loads: Loads, count: Int[np.ndarray, " draws"], step: int, most: int) -> Loads:
    """`count` rows more (or fewer) in every draw: one a rank, round after round, at its least (or
    most) loaded expert.
    """
    loads, left = loads.copy(), np.maximum(count, 0)
    while left.any():
        place = np.argmin(step * loads, axis=2)[:, :, None]
        load = np.take_along_axis(loads, place, axis=2)[:, :, 0]
        possible = load < most if step > 0 else load > 0
        moved = possible & (np.cumsum(possible, axis=1) <= left[:, None])
        if not moved.any():
            break
        np.put_along_axis(loads, place, (load + step * moved)[:, :, None], axis=2)
        left = left - moved.sum(axis=1)
    return loads


def _placed(load: Int[np.ndarray, " experts"], slots: int, ranks: int) -> np.ndarray:
    """Rows of every slot after EPLB, by rank: an expert's rows are shared by its slots."""
    copies = np.ones(len(load), dtype=int)
    hottest = [(-float(one), place) for place, one in enumerate(load)]
    heapq.heapify(hottest)
    for _ in range(slots - len(load)):
        _, place = heapq.heappop(hottest)
        copies[place] += 1
        heapq.heappush(hottest, (-load[place] / copies[place], place))
    shares = np.sort(np.repeat(load / copies, copies))[::-1]
    held = np.zeros((ranks, slots // ranks))
    room = [(0.0, rank, 0) for rank in range(ranks)]
    for share in shares:
        total, rank, used = heapq.heappop(room)
        held[rank, used] = share
        if used + 1 < held.shape[1]:
            heapq.heappush(room, (total + share, rank, used + 1))
    return held
