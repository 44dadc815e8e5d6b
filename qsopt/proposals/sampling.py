"""Architectures to begin with, spread evenly over a box, and the legal neighbours of one."""

import jax
import numpy as np
from jaxtyping import Float

from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.bodies import Body
from qsopt.proposals.boxes import EXPERT_STEP, Box, Table
from qsopt.proposals.goals import Goal
from qsopt.proposals.priors import DENSE
from qsopt.proposals.sizing import WIDTH, Sized, sized

DRAWN = 8192
"""Points of the box that are drawn; those of other shapes and sizes are left out."""

PAIRS = 12
"""Moves of two numbers at once that are tried beside all moves of one."""


def sample(box: Box, goal: Goal, body: Body, most: int, seed: int, factor: float = 1.0) -> Sized:
    """Architectures of the quality asked for, at most so many.

    Points of a Sobol sequence (Joe and Kuo 2008), shifted by the seed, over logs of hidden size,
    hidden over layers, experts' share and top-k, and over shared experts and leading dense layers;
    widths follow from the goal.
    """
    from scipy.stats import qmc  # noqa: PLC0415  (slow to import)

    shift = np.random.default_rng([seed, 3]).random(7)
    points = (qmc.Sobol(7, scramble=False).random(DRAWN) + shift) % 1.0
    rows = np.unique(rows_at(points, box), axis=0)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    return legal(rows, box, goal, body, np.full(len(rows), factor), most)


def legal(
    rows: Table,
    box: Box,
    goal: Goal,
    body: Body,
    factor: Float[np.ndarray, " designs"],
    most: int | None = None,
) -> Sized:
    """The rows of which a width makes an architecture in the box, with that width."""
    shaped = np.flatnonzero(box.shaped(rows))
    if not len(shaped):
        return Sized(rows[:0], _take(_nothing(goal, body, box), slice(0, 0)))
    found = sized(rows[shaped], goal, body, box.width_step, factor[shaped])
    physical = np.asarray(found.quality.physical) > 0
    kept = np.flatnonzero(box.holds(found.rows, found.quality) & physical)[:most]
    return Sized(found.rows[kept], _take(found.quality, kept))


def _nothing(goal: Goal, body: Body, box: Box):
    """Qualities of the right form where no row is legal."""
    row = np.array([[box.bounds.get(name, (box.width_step,))[0] for name in COLUMNS]])
    return sized(row, goal, body, box.width_step).quality


def _take(quality, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], quality)


def _log_between(share: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.exp(np.log(low) + share * (np.log(high) - np.log(low)))


def rows_at(points: Float[np.ndarray, "points 7"], box: Box) -> Table:
    """Architectures of points of the unit cube, without widths: logs of hidden size, hidden over
    layers, top-k, share of active experts, then shared experts, leading dense layers, KV heads.
    """
    step, spans = box.steps, box.bounds
    hidden = _log_between(points[:, 0], *spans["hidden"])
    hidden = np.round(hidden / step["hidden"]) * step["hidden"]
    layers = np.round(hidden / _log_between(points[:, 1], *box.ratios["hidden_over_layers"]))
    kv = _log_between(points[:, 6], *spans["kv"])
    kv = np.maximum(np.round(kv / step["kv"]), 1.0) * step["kv"]
    one, none = np.ones(len(points)), np.zeros(len(points))
    if box.family == DENSE:
        columns = (layers, hidden, kv, one, one, none, none, none)
        return np.stack(columns, axis=1)
    top_k = np.round(_log_between(points[:, 2], *spans["top_k"]))
    shared = _whole_between(points[:, 4], *spans["shared"])
    share = _log_between(points[:, 3], *box.ratios["active_share"])
    experts = (top_k + shared) / share - shared
    scale = box.steps.get("experts", EXPERT_STEP)
    experts = np.clip(np.round(experts / scale) * scale, *spans["experts"])
    leading = _whole_between(points[:, 5], *spans["leading"])
    return np.stack((layers, hidden, kv, experts, top_k, shared, leading, none), axis=1)


def _whole_between(share: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.minimum(np.floor(low + share * (high - low + 1.0)), high)


# ---- neighbours ----------------------------------------------------------------------------------

STEPS = {
    "layers": (1.0, 2.0, 4.0, 8.0),
    "hidden": (1.0, 2.0, 4.0, 8.0),
    "experts": (1.0, 2.0, 4.0, 8.0),
    "top_k": (1.0, 2.0),
    "shared": (1.0,),
    "leading": (1.0, 2.0),
}
"""How far one number moves, in its own steps, to either side."""


def neighbours(row: Float[np.ndarray, " columns"], box: Box, seed: int) -> Table:
    """Architectures that differ in one number, and some that differ in two; widths are to be found
    anew.
    """
    singles = _singles(row, box)
    random = np.random.default_rng(seed)
    deltas = [each - row for each in singles]
    pairs = []
    for _ in range(PAIRS if len(deltas) > 1 else 0):
        first, second = random.choice(len(deltas), 2, replace=False)
        pairs.append(row + deltas[first] + deltas[second])
    moved = np.stack([*singles, *pairs]) if singles else row[None][:0]
    moved[:, WIDTH] = 0.0
    return np.unique(moved, axis=0) if len(moved) else moved


def _singles(row: np.ndarray, box: Box) -> list[np.ndarray]:
    """All moves of one number: steps to either side, and half and double."""
    found = []
    for name in COLUMNS[:-1]:
        place, step = COLUMNS.index(name), box.steps.get(name, 1.0)
        value, (low, high) = row[place], box.bounds[name]
        if low == high:
            continue
        reach = [step * each for each in STEPS.get(name, (1.0,))]
        values = [value + sign * each for each in reach for sign in (-1.0, 1.0)]
        values += [2.0 * value, np.round(value / 2.0 / step) * step]
        for other in dict.fromkeys(values):
            if low <= other <= high and other != value:
                moved = row.copy()
                moved[place] = other
                found.append(moved)
    return found + _together(row, box)


def _together(row: np.ndarray, box: Box) -> list[np.ndarray]:
    """Experts and top-k together at one share; hidden size and layers together or against each
    other.
    """
    get = {name: row[COLUMNS.index(name)] for name in COLUMNS}
    pairs = []
    if box.family != DENSE:
        for other in (get["top_k"] - 1.0, get["top_k"] + 1.0):
            if other >= 1.0:
                step = box.steps.get("experts", EXPERT_STEP)
                experts = np.round(get["experts"] * other / get["top_k"] / step) * step
                pairs.append({"top_k": other, "experts": experts})
    step = box.steps["hidden"]
    for sign in (-1.0, 1.0):
        for factor in (1.0, 4.0):
            hidden = get["hidden"] + sign * factor * step
            layers = np.round(get["layers"] * get["hidden"] / max(hidden, step))
            pairs.append({"hidden": hidden, "layers": layers})
    found = []
    for changes in pairs:
        moved = row.copy()
        for name, value in changes.items():
            moved[COLUMNS.index(name)] = value
        found.append(moved)
    return found
