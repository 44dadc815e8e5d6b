"""What hardware would make the MoE win, or the dense match?

`python -m experiments.findings.hardware` moves bandwidth, capacity, links, arithmetic and the size
of the domain, one at a time, and compares whole requests anew, each side in its best way at every
value; then it asks the same on today's accelerators and on those that are announced. Both are asked
at the calibrated q and at that of every law as published.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np

from experiments.findings import sides
from experiments.findings.hardware_figure import draw
from experiments.findings.sides import asked, at_law, compared, duel, limited, outcome, served
from experiments.framework import study
from experiments.framework.pieces import Row
from qsopt.catalog.accelerators import hardware_facts
from qsopt.catalog.hardware_file import ANNOUNCED

NAME = "hardware"

INPUTS: dict[str, Any] = {
    "bandwidth": lambda s: s.cluster.accelerator.bandwidth,
    "capacity": lambda s: s.cluster.accelerator.memory_bytes,
    "arithmetic": lambda s: s.cluster.accelerator.peak_flops,
    "links": lambda s: s.cluster.accelerator.scale_up_bandwidth,
    "domain": lambda s: s.cluster.accelerator.scale_up_devices,
}


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """What moves, and where."""

    moved: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Model, cluster and inputs."""
    factors: tuple[float, ...]
    """On an input."""
    prompt: float
    answer: float
    limits_ms: tuple[float, ...]
    """Of the time per output token; 0 for none."""
    accelerators: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Model, devices and accelerators."""
    laws: tuple[str, ...]
    """Whose own q is asked too."""


def along_input(
    model: str,
    cluster: str,
    name: str,
    factors: list[float],
    requests: Row,
    limit_ms: float,
    law: str,
) -> list[Row]:
    """The ratio with an input times each factor; its interval is that of the real accelerator."""
    where = {"model": model, "cluster": cluster}
    case = asked({**where, **requests, **limited(limit_ms), **at_law(law)})
    both, rows = duel(case), []
    where |= {"limit_ms": limit_ms, "law": law, "q": case.q, "input": name}
    for factor in factors:
        moved = eqx.tree_at(
            INPUTS[name], case.service, replace_fn=lambda value, by=factor: np.asarray(value * by)
        )
        moe, dense = (served(side, moved) for side in (both.moe, both.dense))
        reached = {"moe_tokens_per_s": moe.throughput, "dense_tokens_per_s": dense.throughput}
        rows.append({**where, "factor": factor, **reached, **outcome(case, moe, dense)})
    return rows


def on_accelerator(
    model: str, devices: int, accelerator: str, requests: Row, limit_ms: float, law: str
) -> list[Row]:
    """The ratio on an accelerator."""
    flags = {"model": model, "cluster": f"{devices}x{accelerator}"}
    found = compared(**flags, **requests, **limited(limit_ms), **at_law(law))
    where = {"model": model, "accelerator": accelerator, "devices": devices}
    where |= {"limit_ms": limit_ms, "law": law}
    return [{**where, "announced": hardware_facts(accelerator).status == ANNOUNCED, **found}]


WALK = ("model", "cluster", "limit_ms", "law", "input")
"""What one walk has in common."""


def slopes(rows: list[Row]) -> list[Row]:
    """Of every walk: the slope of the log ratio over a doubling, and the first factor at which the
    verdict turns, on the straight line in logs between two values.
    """
    found = []
    for walk in dict.fromkeys(tuple(row[name] for name in WALK) for row in rows):
        line = [row for row in rows if tuple(row[name] for name in WALK) == walk]
        ratios = {row["factor"]: row["ratio"] for row in line if row["ratio"]}
        known = 1.0 in ratios and 2.0 in ratios
        slope = float(np.log2(ratios[2.0] / ratios[1.0])) if known else None
        own = next(row for row in line if row["factor"] == 1.0)
        own = {name: own[name] for name in ("ratio", "low", "high", "verdict", "q")}
        moved = {"elasticity": slope, "turns_at": _turn(ratios)}
        found.append({**dict(zip(WALK, walk, strict=True)), **own, **moved})
    return found


def _turn(ratios: dict[float, float]) -> float | None:
    """The factor nearest to 1 at which the ratio is 1."""
    ordered = sorted(ratios.items())
    turns = []
    for (low, first), (high, second) in itertools.pairwise(ordered):
        if (first > 1.0) != (second > 1.0):
            share = np.log(first) / np.log(first / second)
            turns.append(float(np.exp(np.log(low) + share * np.log(high / low))))
    return min(turns, key=lambda factor: abs(np.log(factor)), default=None)


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        requests = {"prompt": settings.prompt, "answer": settings.answer}
        asked_at = [(limit, law) for law in ("", *settings.laws) for limit in settings.limits_ms]
        keys: list[Row] = [
            {"model": m, "cluster": c, "name": name, "factors": settings.factors,
             "requests": requests, "limit_ms": limit, "law": law}
            for m, c, names in settings.moved
            for name in names
            for limit, law in asked_at
        ]  # fmt: skip
        walks = study.joined(this.pieces(keys, along_input, (sides,)))
        keys = [
            {"model": m, "devices": n, "accelerator": chip, "requests": requests,
             "limit_ms": limit, "law": law}
            for m, n, chips in settings.accelerators
            for chip in chips
            for limit, law in asked_at
        ]  # fmt: skip
        chips = study.joined(this.pieces(keys, on_accelerator, (sides,)))
        this.write(walks, lambda rows: draw(rows, chips), slopes=slopes(walks), accelerators=chips)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
