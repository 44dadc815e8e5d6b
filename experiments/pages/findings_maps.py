"""The findings page: maps, the roofline bound against measured efficiencies, sparsity, hardware,
measured models.
"""

import numpy as np

from experiments.framework import style
from experiments.framework.pieces import Row
from experiments.pages.evidence import (
    Book,
    Evidence,
    made_by,
    paragraph,
    section,
    share,
    table,
    times,
    tokens,
)

OUTCOMES = ("dense_wins", "moe_wins", "moe_infeasible")

SLOPES = {
    "s_fixed_total": "s at fixed total",
    "s_fixed_active": "s at fixed active",
    "s_fixed_quality": "s at fixed quality",
    "experts": "experts",
    "top_k": "experts per token",
    "expert_width": "expert width",
}


def maps(book: Book) -> str:
    """Where the MoE wins and loses, for every pair of axes."""
    found = book.of("phase_maps")
    inputs = found.record["inputs"]
    bound = found.rows(efficiency="ideal")
    other = "" if not bound else _mean(bound, "share_verdict_differs_from_drawn")
    sentence = (
        f"With ideal efficiencies another side wins at {other} of the points that were mapped "
        f"with both."
        if other
        else ""
    )
    return section(
        "## The map of where the MoE wins and loses",
        *(_pair(book, found, x, y) for x, y in inputs["pairs"]),
        sentence,
        made_by("phase_maps"),
    )


def _pair(book: Book, found: Evidence, x: str, y: str) -> str:
    inputs, lines = found.record["inputs"], []
    for model in inputs["models"]:
        rows = found.rows(model=model, x=x, y=y, efficiency=inputs["efficiency"])
        ratios = [row["ratio_median"] for row in rows if row["ratio_median"] is not None]
        middle = times(float(np.median(ratios))) if ratios else "-"
        shares = [_mean(rows, f"share_{outcome}") for outcome in OUTCOMES]
        lines.append(
            (
                style.name_of(model),
                *shares,
                middle,
                _mean(rows, "share_unsure"),
                _mean(rows, "qs_calls_it_right"),
            )
        )
    head = (
        "model",
        "dense wins",
        "MoE wins",
        "MoE does not fit",
        "median ratio",
        "winner unsure in q's interval",
        "q s < 1 right",
    )
    return section(
        f"### {x.capitalize()} and {y}",
        book.picture("phase_maps", f"Winner over {x} and {y}", f"{x}_{y}_{inputs['models'][0]}"),
        f"Shares of the points, means over {len(inputs['accelerators'])} accelerators:",
        table(head, lines),
    )


def _mean(rows: list[Row], key: str) -> str:
    """Mean share of the rows that have one."""
    values = [row[key] for row in rows if row[key] is not None]
    return share(float(np.mean(values))) if values else "-"


def ideal_and_fitted(book: Book) -> str:
    """How the roofline bound would conclude otherwise."""
    pairs = {
        "DeepSeek-V3 at 128k": _partners(
            book.of("deepseek_claim"), ("accelerator", "devices", "precision", "law", "q")
        ),
        "over context": _partners(
            book.of("context_claim"), ("model", "cluster", "context", "law", "q")
        ),
        "Switch-C": _partners(book.of("switch_claim"), ("accelerator", "precision", "multiple")),
    }
    lines = []
    for name, matched in pairs.items():
        fine = [
            (ideal, fitted)
            for ideal, fitted in matched
            if ideal.get("ratio") and fitted.get("ratio")
        ]
        differs = float(np.mean([ideal["verdict"] != fitted["verdict"] for ideal, fitted in fine]))
        factor = np.log([ideal["ratio"] / fitted["ratio"] for ideal, fitted in fine])
        low, middle, high = (
            times(float(np.exp(value))) for value in np.quantile(factor, (0.1, 0.5, 0.9))
        )
        lines.append((name, str(len(fine)), share(differs), f"{middle} ({low} to {high})"))
    head = (
        "comparison",
        "points where both fit",
        "another winner",
        "ratio under ideal over fitted: median (10 to 90 %)",
    )
    text = paragraph(
        "`ideal` lets every kernel reach its datasheet; `fitted` uses what kernels were measured "
        "to reach,",
        "launches, uneven routing and",
        "the memory of the runtime. The last column says how far the bound exaggerates (above 1) "
        "or hides (below 1)",
        "what dense gains.",
    )
    made = made_by("deepseek_claim", "context_claim", "switch_claim")
    return section(
        "## What the roofline bound would conclude otherwise", text, table(head, lines), made
    )


def _partners(found: Evidence, names: tuple[str, ...]) -> list[tuple[Row, Row]]:
    """Rows of the ideal set with those of the fitted one at the same point."""
    partner = {tuple(row[name] for name in names): row for row in found.rows(efficiency="fitted")}
    keyed = ((tuple(row[name] for name in names), row) for row in found.rows(efficiency="ideal"))
    return [(row, partner[key]) for key, row in keyed if key in partner]


def sparsity(book: Book) -> str:
    """What more sparsity does."""
    found = book.of("sparsity_gradients")
    rows, lines = found.rows(feasible=True), []
    for key, text in SLOPES.items():
        values = np.array([row[key] for row in rows if row[key] is not None])
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
        lines.append(
            (
                text,
                f"{middle:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                share(float(np.mean(values < 0.0))),
            )
        )
    best = [
        row["best_s_fixed_quality"] / row["s"] for row in rows if row.get("best_s_fixed_quality")
    ]
    sparser = float(np.mean(np.array(best) < 0.99))
    text = paragraph(
        "A negative slope in s says that more sparsity (smaller s) still raises throughput. At "
        "fixed quality,",
        "deployed anew at every",
        f"step, throughput is best at {np.median(best):.2f} times the model's own s in the "
        f"median; it is best at a",
        "smaller s than the",
        f"model's own for {share(sparser)} of the optima, and at it or above for the rest: there "
        f"more sparsity hurts.",
    )
    return section(
        "## Throughput and sparsity",
        book.picture("sparsity_gradients", "Elasticities of throughput to sparsity"),
        f"Change of the best throughput in percent for one percent more of an input, over "
        f"{len(rows)} optima:",
        table(("input", "median", "10 to 90 %", "negative in"), lines),
        text,
        book.picture(
            "sparsity_gradients", "Throughput along sparsity at fixed quality", "sparsity_curves"
        ),
        made_by("sparsity_gradients"),
    )


def hardware(book: Book) -> str:
    """What hardware would make the MoE win."""
    found = book.of("hardware_for_moe")
    inputs, lines = found.record["inputs"], []
    for name in inputs["inputs"]:
        rows = found.rows(input=name)
        lost = [row for row in rows if row["verdict_own"] in ("dense wins", "moe infeasible")]
        turned = [
            row["moe_wins_above_own_times"] for row in lost if row["moe_wins_above_own_times"]
        ]
        slopes = [
            row["elasticity_of_ratio"] for row in rows if row["elasticity_of_ratio"] is not None
        ]
        from_ = f"{np.median(turned):.1f} times as built" if turned else "-"
        lines.append(
            (
                name,
                f"{np.median(slopes):+.2f}" if slopes else "-",
                f"{len(turned)} of {len(lost)}",
                from_,
            )
        )
    cases = paragraph(
        f"Cases: {len(inputs['models'])} models on {', '.join(inputs['clusters'])} at",
        f"{', '.join(tokens(value) for value in inputs['contexts'])} tokens; each input alone, up "
        f"to",
        f"{inputs['factor']:g} times its value.",
        "A negative elasticity says that more of the input moves the ratio towards the MoE.",
    )
    head = (
        "input",
        "elasticity of dense over MoE, median",
        "cases that dense wins and more of it turns",
        "from, median",
    )
    return section(
        "## What hardware would make the MoE win",
        book.picture("hardware_for_moe", "Ratio along inputs of the hardware"),
        table(head, lines),
        cases,
        made_by("hardware_for_moe"),
    )


def stacks(book: Book) -> str:
    """Measured MoE models against measured dense ones."""
    found, title = book.of("real_stacks"), "## Measured models"
    if not found.there:
        command = "`python -m experiments.paper.real_stacks --data FOLDER`"
        return section(
            title,
            f"Measured serving results are not part of this repository; {command} compares them.",
        )
    rows, good = found.rows(), found.record["agreement"]
    of_pair: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["size_over_match"]):
        of_pair.setdefault((row["moe"], row["dense"]), []).append(row)
    lines = []
    for pair, kept in of_pair.items():
        sides = ([row[f"{kind}_ratio"] for row in kept] for kind in ("measured", "predicted"))
        sizes = (f"{kept[0][name]:.2f}" for name in ("q", "qs", "size_over_match"))
        lines.append(
            (
                *pair,
                str(len(kept)),
                *sizes,
                *(f"{times(min(side))} to {times(max(side))}" for side in sides),
            )
        )
    won = [
        [row["measured_ratio"] > 1.0 for row in rows if (row["size_over_match"] < 1.0) == less]
        for less in (True, False)
    ]
    longest = tokens(max(row["prompt"] + row["answer"] for row in rows))
    agreed = paragraph(
        "MoE and dense models measured on the same accelerator, stack and lengths are the nearest "
        "there is to a",
        "measured comparison.",
        f"The model names the measured winner in {share(good['same_winner'])} of {len(rows)} "
        f"points; its ratio is",
        "off by a factor of",
        f"{good['median_factor']:.2f} in the median and {good['p90_factor']:.2f} at the 90th "
        f"percentile.",
    )
    said = paragraph(
        f"What they say: dense models smaller than the law's match win "
        f"{share(float(np.mean(won[0])))} of their",
        "points, larger ones",
        f"{share(float(np.mean(won[1])))}. What they cannot say: who wins at equal quality, as no "
        f"pair is matched;",
        "formats differ in some",
        "pairs, as the checkpoints do; the configurations are those that somebody published; and "
        "no sequence",
        f"exceeds {longest} tokens.",
    )
    inside = [
        kept
        for kept in of_pair.values()
        if kept[0]["law_q_low"] <= kept[0]["q"] <= kept[0]["law_q_high"]
    ]
    nearest = (
        " ".join(map(_nearest, inside)) or "No pair lies within the 80 % interval of the law's q."
    )
    head = (
        "MoE",
        "dense",
        "points",
        "q of the pair",
        "q s of the pair",
        "size over the law's match",
        "measured ratio",
        "predicted ratio",
    )
    return section(
        title,
        book.picture("real_stacks", "Measured pairs of MoE and dense models"),
        agreed,
        table(head, lines),
        said,
        paragraph(nearest),
        made_by("real_stacks --data FOLDER"),
    )


def _nearest(rows: list[Row]) -> str:
    """A pair that may be a match by the law."""
    measured = [row["measured_ratio"] for row in rows]
    first = rows[0]
    return (
        f"Within the 80 % interval of the law's q: {first['dense']} against {first['moe']}, "
        f"{times(min(measured))} to "
        f"{times(max(measured))} as fast as the MoE (formats: {first['moe']} "
        f"{first['precisions'].replace(' / ', ', dense ')})."
    )
