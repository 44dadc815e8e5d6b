"""What single sections of the findings ask of their rows: turns of answers, factors of attention,
elasticities of hardware, what flips a verdict.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.pages.findings_numbers import every, one_winner, pick, sure, winner
from experiments.pages.template import tokens

Row = dict[str, Any]


# ---- lifetimes -----------------------------------------------------------------------------------


def paying(rows: Sequence[Row]) -> int:
    """Of lifetimes, those in which distilling pays."""
    return sum(row["distilled"]["tokens"] is not None for row in rows)


def trillions(count: float | None) -> str:
    """Tokens in units of 10^12, to three figures."""
    if count is None:
        return "never"
    value = count / 1e12
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def pays_after(even: Row) -> str:
    """Tokens after which a choice pays, in units of 10^12, with the 80 % interval."""
    low, high = trillions(even["low"]), trillions(even["high"])
    middle_of = trillions(even["tokens"])
    return middle_of if middle_of == low == high else f"{middle_of} ({low} to {high})"


# ---- lengths -------------------------------------------------------------------------------------


def turn(row: Row) -> str:
    """The answer from which on dense wins with its 80 % interval, and the ratio at the longest
    answer where it never or always does.
    """
    known = _reach(row, "from")
    within = f" ({ends(row)})" if {_reach(row, end) for end in ENDS} != {known} else ""
    if known not in (ALWAYS, NEVER):
        return known + within
    return f"{known}{within}, {row['at_long']:.2f} at {tokens(row['longest'])}"


def ends(row: Row) -> str:
    """The 80 % interval of the answer from which on dense wins."""
    return " to ".join(_reach(row, end) for end in ENDS)


ENDS = ("from_low", "from_high")
ALWAYS, NEVER = "always", "never"


def _reach(row: Row, name: str) -> str:
    if row[name] is None:
        return NEVER
    return ALWAYS if row[name] <= row["shortest"] else tokens(row[name])


# ---- sparsity ------------------------------------------------------------------------------------


def directions(rows: Sequence[Row]) -> dict[str, str]:
    """By law, whether the best variants are sparser or denser than the models themselves."""
    found = {}
    for law in dict.fromkeys(row["law"] for row in rows):
        sides = {np.sign(row["best_s"] - row["own_s"]) for row in every(rows, law=law)} - {0.0}
        found[law] = {(-1.0,): "sparser", (1.0,): "denser"}.get(tuple(sides), "either way")
    return found


def sure_gains(rows: Sequence[Row]) -> int:
    """Of the best variants, those that serve more than the model itself by the whole interval."""
    return sum(row["best_s"] != row["own_s"] and row["low"] > 1.0 for row in rows)


# ---- attention -----------------------------------------------------------------------------------


def ways(rows: Sequence[Row]) -> list[str]:
    """On which sides latent attention is."""
    return list(dict.fromkeys(row["attention"] for row in rows if row["shape"] == "released"))


def attention_factor(rows: Sequence[Row], one: str, other: str) -> list[float]:
    """What another choice of attention does to the ratio, question by question."""
    found = []
    for row in every(rows, shape="released", attention=one):
        same = {name: row[name] for name in ("model", "question", "shape")}
        moved = pick(rows, **same, attention=other)["ratio"]
        if row["ratio"] and moved:
            found.append(moved / row["ratio"])
    return found


def shape_factor(rows: Sequence[Row]) -> list[float]:
    """What the released shape does to the ratio in place of the MoE's body, attention alike."""
    found = []
    for row in every(rows, shape="same body"):
        same = {name: row[name] for name in ("model", "question", "attention")}
        released = pick(rows, **same, shape="released")["ratio"]
        if row["ratio"] and released:
            found.append(released / row["ratio"])
    return found


def questions(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Models and what is asked about them."""
    return list(dict.fromkeys((row["model"], row["question"]) for row in rows))


def turned(rows: Sequence[Row]) -> int:
    """In how many questions who wins is a matter of attention, in released shape."""
    released = every(rows, shape="released")
    each = (every(released, model=model, question=name) for model, name in questions(rows))
    return sum(not one_winner(same) for same in each)


def alike(rows: Sequence[Row]) -> list[Row]:
    """Those in which a dense match of released shape and the MoE have the MoE's own attention."""
    released = every(rows, shape="released")
    return [row for row in released if row["attention"] == f"{row['own']} on both"]


# ---- hardware ------------------------------------------------------------------------------------


def inputs(rows: Sequence[Row]) -> list[str]:
    """Inputs that were moved."""
    return list(dict.fromkeys(row["input"] for row in rows))


def places(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """Models, clusters and limits."""
    return list(dict.fromkeys((row["model"], row["cluster"], row["limit_ms"]) for row in rows))


def breadths(rows: Sequence[Row], *same: str) -> list[float]:
    """Of rows that have these values in common, the largest ratio over the smallest."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in same), []).append(row["ratio"])
    return [max(group) / min(group) for group in groups.values()]


def walks(rows: Sequence[Row], place: tuple[str, str, float]) -> list[Row]:
    """All inputs that were moved at a place."""
    return every(rows, **dict(zip(("model", "cluster", "limit_ms"), place, strict=True)))


def slope(rows: Sequence[Row], place: tuple[str, str, float], name: str) -> str:
    """The elasticity of the ratio and where the verdict turns, a dash where the input was not
    moved.
    """
    found = every(walks(rows, place), input=name)
    if not found or found[0]["elasticity"] is None:
        return "-"
    turn = found[0]["turns_at"]
    return f"{found[0]['elasticity']:+.2f}, {'-' if turn is None else f'{turn:.2g}x'}"


# ---- decisions -----------------------------------------------------------------------------------


def sureness(row: Row) -> str:
    """Whether the interval of a ratio leaves the verdict open."""
    return "the interval lies on one side of 1" if sure(row) else "the interval holds 1"


def agree(rows: Sequence[Row]) -> str:
    """Whether all dense shapes and laws name one winner."""
    return (
        "all dense shapes and laws agree" if one_winner(rows) else "dense shapes or laws disagree"
    )


def flip_limit(rows: Sequence[Row], model: str, match: str) -> str:
    """The loosest limit on the time per token at which another side wins than without a limit [ms];
    a dash where none of those asked about does.
    """
    line = every(rows, model=model, match=match)
    free = pick(line, limit_ms=0.0)
    limits = [r["limit_ms"] for r in line if r["limit_ms"] and winner(r) != winner(free)]
    return f"{max(limits):g}" if limits else "-"


def riding(rows: Sequence[Row]) -> list[float]:
    """Tokens/s with prompts in the same steps over those with prompts between steps."""
    found = []
    for row in every(rows, way="mixed"):
        same = {name: row[name] for name in ("model", "limit_ms", "read")}
        found.append(row["tokens_per_s"] / pick(rows, **same, way="alternating")["tokens_per_s"])
    return found


def changed(rows: Sequence[Row], words: str) -> list[float]:
    """Ratios after a change over those without it, for every model, cluster and law."""
    found = []
    for row in every(rows, change=words):
        same = {name: row[name] for name in ("model", "cluster", "law") if name in row}
        own = pick(rows, **same, change="as it is")["ratio"]
        if row["ratio"] and own:
            found.append(row["ratio"] / own)
    return found


def otherwise(some: Sequence[Row], others: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Of verdicts asked in two ways, those that differ."""
    names = ("model", "match", "limit_ms")
    pairs = [(row, pick(others, **{name: row[name] for name in names})) for row in some]
    return [(one, other) for one, other in pairs if winner(one) != winner(other)]
