"""Maps and crossovers as text for people."""

from collections import Counter
from typing import Any

from qsopt.maps.phase_map import PhaseMap
from qsopt.maps.request_map import RequestMap
from qsopt.report.text import console, say_hardware
from qsopt.serving.ways import SEARCHED

LETTERS = {
    "dense wins": "D",
    "moe wins": "m",
    "tie": "=",
    "moe infeasible": "d",
    "dense infeasible": "M",
}
"""Of verdicts on a map; a point where neither side fits has none."""

WIDEST, HIGHEST = 60, 24
"""Columns and lines of a map in text, about."""

UNITS = {
    "context": "tokens",
    "batch": "sequences in the cluster",
    "devices": "devices",
    "q": "",
    "bandwidth": "byte/s",
    "prompt": "tokens",
    "answer": "tokens",
    "ttft": "s",
    "tpot": "s",
    "cached": "",
    "load": "",
    "acceptance": "",
}
"""Of what a crossover moves."""


def show_map(
    drawn: PhaseMap | RequestMap, title: str, trained_context: float | None = None
) -> None:
    """A map of letters, highest y first, with its legend and shares."""
    out, verdicts = console(), drawn.verdicts
    out.print(f"[bold]{title}[/bold]")
    columns = range(0, len(verdicts), -(-len(verdicts) // WIDEST))
    for row in range(len(verdicts[0]) - 1, -1, -len(verdicts[0]) // HIGHEST):
        text = "".join(LETTERS.get(verdicts[column][row], ".") for column in columns)
        out.print(f"{drawn.y.values[row]:>12.4g} {text}", highlight=False)
    out.print(
        f"x: {drawn.x.kind.what}, {drawn.x.values[0]:.4g} to {drawn.x.values[-1]:.4g}; y: "
        f"{drawn.y.kind.what}",
        markup=False,
    )
    out.print("D dense wins, m MoE wins, d only dense fits, M only MoE fits, . neither")
    longest = max(
        (float(axis.values[-1]) for axis in (drawn.x, drawn.y) if axis.name == "context"),
        default=0.0,
    )
    if trained_context is not None and longest > trained_context:
        out.print(f"beyond {trained_context:,.0f} tokens the model was not made to answer")
    counts = Counter(outcome for column in verdicts for outcome in column)
    total = sum(counts.values())
    out.print(
        ", ".join(f"{outcome} {count / total:.1%}" for outcome, count in counts.most_common())
    )
    if drawn.sure is not None:
        out.print(
            f"the winner does not depend on q within its 80% interval at {drawn.sure.mean():.1%} "
            f"of the points"
        )


def show_ways(drawn: RequestMap) -> None:
    """How often each side is best served in which way."""
    for name, side in (("MoE", drawn.moe), ("dense", drawn.dense)):
        counts = Counter(SEARCHED[way] for way in side.way.ravel() if way >= 0)
        words = (f"{way} {count / side.way.size:.1%}" for way, count in counts.most_common())
        console().print(f"{name} is served best: {', '.join(words) or 'nowhere'}")


def show_crossovers(record: dict[str, Any]) -> None:
    """Both ends of the range, where the verdict flips, and where a side stops to fit."""
    out, unit = console(), UNITS[record["over"]]
    out.print(
        f"[bold]{record['model']} against its dense twin on {record['cluster']}, over "
        f"{record['over']}[/bold]"
    )
    say_hardware(record["hardware_notes"])
    for end in (record["at_low"], record["at_high"]):
        ratio = (
            ""
            if end["ratio"] is None
            else f", dense reaches {end['ratio']:.3g} times the throughput of the MoE"
        )
        out.print(f"at {end['value']:,.6g} {unit}: {end['verdict']}{ratio}")
    for crossing in record["crossings"]:
        out.print(
            f"[bold]{crossing['value']:,.6g} {unit}[/bold]: the verdict flips "
            f"{crossing['direction']}{_beyond(record, crossing['value'])}"
        )
    if not record["crossings"]:
        out.print("the verdict never flips in between")
    for edge in record["edges"]:
        out.print(f"{edge['value']:,.6g} {unit}: {edge['below']} below, {edge['above']} above")


def _beyond(record: dict[str, Any], context: float) -> str:
    """The mark of a context that the model was not made for."""
    longest = record["trained_context"]
    if record["over"] != "context" or longest is None or context <= longest:
        return ""
    return f" (beyond the {longest:,.0f} tokens that the model's config takes)"
