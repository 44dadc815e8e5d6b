"""Numbers that the findings' templates ask for: rows picked, shares counted, words chosen."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from experiments.pages.template import tokens

Row = dict[str, Any]


def pick(rows: Iterable[Row], **wanted: Any) -> Row:
    """The only row with these values.

    Raises:
        LookupError: if there is none, or there are several.
    """
    found = every(rows, **wanted)
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows with {wanted}")
    return found[0]


def every(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def ratio(row: Row) -> str:
    """A ratio with its interval."""
    if row["ratio"] is None:
        return {"moe infeasible": "only dense", "dense infeasible": "only MoE"}.get(
            row["verdict"], "neither"
        )
    return f"{row['ratio']:.2f}{between(row)}"


def between(row: Row) -> str:
    """The interval of a ratio, where there is one."""
    if row.get("low") is None:
        return ""
    return f" ({row['low']:.2f} to {row['high']:.2f})"


def alone(row: Row) -> str:
    """The ratio of decode alone of a pair, with its interval."""
    return ratio({"ratio": row["decode"], "low": row["decode_low"], "high": row["decode_high"]})


def span(values: Iterable[float | None], pattern: str = ".2f") -> str:
    """From the least to the most of some numbers."""
    known = [value for value in values if value is not None]
    low, high = format(min(known), pattern), format(max(known), pattern)
    return low if low == high else f"{low} to {high}"


def lengths(values: Iterable[float | None]) -> str:
    """From the least to the most of some lengths, as people say them."""
    known = [value for value in values if value is not None]
    low, high = tokens(min(known)), tokens(max(known))
    return low if low == high else f"{low} to {high}"


def most(values: Iterable[float | None]) -> float:
    """The largest of those that exist."""
    return max(value for value in values if value is not None)


def middle(values: Iterable[float | None]) -> float:
    """Median of those that exist."""
    return float(median([value for value in values if value is not None]))


def winner(row: Row) -> str:
    """Who wins, in a word."""
    return "dense" if row["verdict"] in ("dense wins", "moe infeasible") else "the MoE"


def sure(row: Row) -> bool:
    """Whether the 80 % interval lies on one side of 1."""
    return row["low"] is not None and (row["low"] > 1.0 or row["high"] < 1.0)


def dense_wins(rows: Iterable[Row]) -> int:
    """How often dense wins."""
    return sum(winner(row) == "dense" for row in rows)


def one_winner(rows: Iterable[Row]) -> bool:
    """Whether the same side wins everywhere."""
    return len({winner(row) for row in rows}) == 1


def column(rows: Sequence[Row], name: str) -> list[Any]:
    """One value of every row."""
    return [row[name] for row in rows]


def factor(error: float) -> float:
    """An error in logs as a factor."""
    return float(np.exp(error))


def typical(errors: Iterable[float]) -> float:
    """Median size of errors in logs, as a factor."""
    return float(np.exp(np.median(np.abs(list(errors)))))


def lean(errors: Iterable[float]) -> float:
    """Median of errors in logs, as a factor."""
    return float(np.exp(np.median(list(errors))))


def off(rows: Iterable[Row]) -> list[float]:
    """How far the closed form is from the roofline, as shares."""
    return [abs(row["closed_form"] / row["ideal"] - 1.0) for row in rows]


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
    ends = [_reach(row, end) for end in ("from_low", "from_high")]
    within = f" ({' to '.join(ends)})" if set(ends) != {known} else ""
    if known not in (ALWAYS, NEVER):
        return known + within
    return f"{known}{within}, {row['at_long']:.2f} at {tokens(row['longest'])}"


ALWAYS, NEVER = "always", "never"


def _reach(row: Row, name: str) -> str:
    if row[name] is None:
        return NEVER
    return ALWAYS if row[name] <= row["shortest"] else tokens(row[name])


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
