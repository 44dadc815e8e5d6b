"""Do predictions lean to one side where an MoE and a dense model were both measured?

`python -m experiments.pages.measured_pairs DATA...` writes docs/measured-pairs.md of all pairs of
results in some folders with end-to-end results, published ones, and servers whose power was
measured. The ratio is that of output tokens/s of a device, dense over MoE; an error is predicted
over measured, as a factor.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qsopt.cli import runtime
from qsopt.files import write_text

runtime.configure(quick=False)

from experiments.pages.measured_sides import (  # noqa: E402
    PACED,
    PUBLISHED,
    RUNS,
    Measured,
    Side,
    measured,
)
from experiments.pages.template import render  # noqa: E402
from qsopt.calibration.tables.folder import read_folder  # noqa: E402
from qsopt.fitted.errors import Column  # noqa: E402
from qsopt.fitted.spread import INTERVALS, batch_class, devices_class  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "measured-pairs.md"

LIMITS_MS = (None, 40.0, 20.0)
"""Limits of the time per output token under which each side is taken at its best [ms]."""


@dataclass(frozen=True)
class Pair:
    """An MoE and a dense model at one load; several results of a model are their median."""

    moe: Side
    dense: Side
    """One of the results of each side, for what they have in common."""
    measured: float
    """Ratio of tokens/s of a device, dense over MoE."""
    served: float
    """As predicted on requests."""
    decode: float
    """As predicted for decoding alone."""
    moe_error: float
    """Log of predicted over measured tokens/s."""
    dense_error: float
    inside: float
    """Whether the measured ratio lies in the 80 % interval, as 1 or 0; NaN without one."""


Load = Callable[[Side], tuple[Any, ...]]


def same_load(side: Side) -> tuple[Any, ...]:
    """What both results of a pair have in common.

    End-to-end results: devices and sequences at once. Published ones: the format, each at full
    load or at a stated batch. Servers whose power was measured: devices and most sequences.
    """
    place = (side.kind, side.accelerator, side.software, side.source)
    return {
        RUNS: (*place, side.lengths, side.devices, round(side.batch, 6)),
        PUBLISHED: (*place, side.lengths, side.precision),
        PACED: (*place, side.devices),
    }[side.kind]


def same_question(side: Side) -> tuple[Any, ...]:
    """What both sides of a pair have in common where each is taken at its best."""
    lengths = "" if side.kind == PACED else side.lengths
    form = side.precision if side.kind == PUBLISHED else ""
    return (side.kind, side.accelerator, side.software, side.task, lengths, form)


def _meetings(sides: Iterable[Side], load: Load) -> list[tuple[list[Side], list[Side]]]:
    """Results of an MoE and of a dense model with something in common."""
    groups: dict[Any, dict[str, list[Side]]] = defaultdict(lambda: defaultdict(list))
    for side in sides:
        groups[load(side)][side.model].append(side)
    return [
        (moe, dense)
        for models in groups.values()
        for moe, dense in product(models.values(), models.values())
        if moe[0].moe and not dense[0].moe
    ]


def pairs_at_one_load(found: Measured) -> list[Pair]:
    """All pairs of results at one load."""
    return [
        _pair(found, moe[0], dense[0], [_medians(moe), _medians(dense)])
        for moe, dense in _meetings(found.sides, same_load)
    ]


def _medians(sides: list[Side]) -> np.ndarray:
    """Logs of measured and predicted rates, and of that of decoding alone."""
    rates = [(side.rate, side.served, side.decode) for side in sides]
    return np.median(np.log(rates), axis=0)


def _pair(found: Measured, moe: Side, dense: Side, logs: Sequence[np.ndarray]) -> Pair:
    ratio = logs[1] - logs[0]
    low, high = (found.ratio(dense, moe)[place] for place in INTERVALS["80"])
    off = ratio[0] - ratio[1]
    return Pair(
        moe,
        dense,
        *(float(value) for value in np.exp(ratio)),
        *(float(one[1] - one[0]) for one in logs),
        inside=float(low <= off <= high) if np.isfinite(low + high) else float("nan"),
    )


def pairs_at_their_best(found: Measured, limit: float | None) -> list[Pair]:
    """Each side at its most tokens/s of a device within a limit of the time per token [ms], as
    measured and as predicted.
    """
    sides = [side for side in found.sides if np.isfinite(side.tpot)]
    pairs = []
    for meeting in _meetings(sides, same_question):
        logs = [_best(side, (limit or np.inf) * 1e-3) for side in meeting]
        if all(np.isfinite(one).all() for one in logs):
            pairs.append(_pair(found, meeting[0][0], meeting[1][0], logs))
    return pairs


def _best(sides: list[Side], limit: float) -> np.ndarray:
    within = [side.rate for side in sides if side.tpot <= limit]
    predicted = [side for side in sides if side.served_tpot <= limit]
    rates = (
        max(within, default=np.nan),
        max((side.served for side in predicted), default=np.nan),
        max((side.decode for side in predicted), default=np.nan),
    )
    return np.log(rates)


# ---- tables --------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Errors of some pairs."""

    name: str
    pairs: int
    models: int
    """Pairs of models."""
    moe: float
    """Median of predicted over measured tokens/s of the MoE."""
    dense: float
    low: float
    """Lowest measured ratio."""
    high: float
    lean: float
    """Median of the predicted over the measured ratio."""
    factor: float
    """Median error of the ratio, either way."""
    p90: float
    winner: float
    """Share of pairs whose faster side is predicted."""
    inside: float
    """Share of measured ratios inside the 80 % interval; NaN without intervals."""
    alone_lean: float
    """The lean of the prediction for decoding alone."""
    alone_factor: float
    alone_winner: float


def row(name: str, pairs: Sequence[Pair]) -> Row:
    """Errors of some pairs."""
    ratio = np.log([(pair.measured, pair.served, pair.decode) for pair in pairs])
    truth, served, alone = ratio.T
    sides = np.array([(pair.moe_error, pair.dense_error) for pair in pairs])
    inside = np.array([pair.inside for pair in pairs])
    known = np.isfinite(inside)
    moe, dense = map(float, np.exp(np.median(sides, axis=0)))
    lean, factor, p90 = _errors(served - truth)
    alone_lean, alone_factor, _ = _errors(alone - truth)
    return Row(
        name,
        pairs=len(pairs),
        models=len({(pair.moe.model, pair.dense.model) for pair in pairs}),
        moe=moe,
        dense=dense,
        low=float(np.exp(truth.min())),
        high=float(np.exp(truth.max())),
        lean=lean,
        factor=factor,
        p90=p90,
        winner=_winners(truth, served),
        inside=float(inside[known].mean()) if known.any() else float("nan"),
        alone_lean=alone_lean,
        alone_factor=alone_factor,
        alone_winner=_winners(truth, alone),
    )


def _errors(off: Column) -> tuple[float, float, float]:
    """Lean, median factor and its 90th percentile."""
    size = np.abs(off)
    lean, factor, p90 = np.median(off), np.median(size), np.quantile(size, 0.9)
    return float(np.exp(lean)), float(np.exp(factor)), float(np.exp(p90))


def _winners(truth: Column, predicted: Column) -> float:
    return float(np.mean(np.sign(truth) == np.sign(predicted)))


def by(pairs: Sequence[Pair], name: Callable[[Pair], str]) -> list[Row]:
    """Errors by the name of a pair."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[name(pair)].append(pair)
    return [row(key, groups[key]) for key in sorted(groups)]


def regimes(pairs: Sequence[Pair]) -> list[Row]:
    """By kind, and within a kind by batch, devices, accelerator and software, and lengths."""
    rows: list[Row] = []
    for kind in (RUNS, PUBLISHED, PACED):
        mine = [pair for pair in pairs if pair.moe.kind == kind]
        for regime in (_batch, _devices, _place, _lengths):
            rows += [one._replace(name=f"{kind}: {one.name}") for one in by(mine, regime)]
    return rows


def _batch(pair: Pair) -> str:
    return batch_class(pair.moe.batch)


def _devices(pair: Pair) -> str:
    return f"{devices_class(pair.moe.devices)} of the MoE"


def _place(pair: Pair) -> str:
    return f"{pair.moe.software} on {pair.moe.accelerator}"


def _lengths(pair: Pair) -> str:
    if pair.moe.kind == PACED:
        return pair.moe.task
    prompt, answer = map(float, pair.moe.lengths.split("|"))
    return "prompts longer than answers" if prompt > answer else "answers as long as prompts"


def numbers(found: Measured) -> dict[str, Any]:
    """What the page says."""
    pairs = pairs_at_one_load(found)
    return {
        "every": row("all", pairs),
        "kinds": by(pairs, lambda pair: pair.moe.kind),
        "regimes": regimes(pairs),
        "models": by(pairs, lambda p: f"{p.moe.kind}: {p.dense.model} over {p.moe.model}"),
        "best": [
            row(f"{kind}, {'none' if limit is None else f'{limit:.0f}'}", mine)
            for limit in LIMITS_MS
            for kind in (RUNS, PACED)
            if (mine := [p for p in pairs_at_their_best(found, limit) if p.moe.kind == kind])
        ],
    }


def main() -> None:
    folders = [read_folder(Path(path)) for path in sys.argv[1:]]
    write_text(PAGE, render("measured-pairs.md", **numbers(measured(folders))))


if __name__ == "__main__":
    main()
