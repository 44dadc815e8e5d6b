"""The findings page: the paper's claims one by one, with verdicts that the numbers choose."""

from collections import Counter

import numpy as np

from experiments.framework import style
from experiments.framework.pieces import Row
from experiments.pages.evidence import (
    Book,
    Claim,
    Evidence,
    dense_wins,
    made_by,
    paragraph,
    section,
    share,
    table,
    times,
    tokens,
)
from experiments.paper.deepseek_claim import TITLES, near
from experiments.paper.qs_predictor import REGIMES


def claims(book: Book) -> list[Claim]:
    """All claims."""
    return [headline(book), over_context(book), switch(book), reuse(book), predictor(book)]


# ---- DeepSeek-V3 at 128k -------------------------------------------------------------------------


def headline(book: Book) -> Claim:
    """DeepSeek-V3 at 128k."""
    found = book.of("deepseek_claim")
    inputs = found.record["inputs"]
    claimed, law = inputs["claimed"], inputs["law"]
    both = [row for row in found.rows(law=law) if row["ratio"] is not None]
    hits = [row for row in both if near(row["ratio"], claimed)]
    reachable = [row for row in both if (row["q_of_claim"] or 0.0) >= 1.0]
    edges = sum(row["devices"] == _smallest(both, row) for row in reachable)
    fitted = [row for row in both if row["efficiency"] == "fitted"]
    median = times(float(np.median([row["ratio"] for row in fitted])))
    most = max(fitted, key=lambda row: row["ratio"])
    text = paragraph(
        f"The paper's cluster, precision and q are not public. Of {len(both)} combinations of "
        f"accelerator, devices,",
        "formats and",
        f"efficiency set on which both sides fit, {len(hits)} come within 10 % of {claimed:g}x at "
        f"the {law} q.",
        f"A q of 1 or more gives exactly {claimed:g}x on {len(reachable)} of them, and on {edges} "
        f"of these the",
        "cluster is the smallest",
        f"tested on which the MoE fits at all. With fitted efficiencies the median advantage is "
        f"{median} and the largest",
        f"{times(most['ratio'])} ({most['devices']} {style.name_of(most['accelerator'])}, "
        f"{TITLES[most['precision']]}).",
    )
    reason = paragraph(
        "What decides is memory, not the criterion: q s is the same on every cluster. On the "
        "MoE's smallest cluster",
        "its weights leave",
        "room for a few sequences only; on a larger one most of the advantage is gone.",
    )
    return Claim(
        f"DeepSeek-V3's dense match is {claimed:g}x as fast at 128k",
        _edge_word(len(hits) / len(both), bool(reachable)),
        f"{len(hits)} of {len(both)} clusters within 10 %; median {median} (fitted)",
        section(
            f"### DeepSeek-V3 at 128k: {claimed:g} times?",
            book.picture(
                "deepseek_claim", "Ratio of throughputs for DeepSeek-V3 at 128k on all clusters"
            ),
            text,
            _reachable(reachable, claimed) if reachable else "",
            reason,
            _spread(both, inputs),
            made_by("deepseek_claim"),
        ),
    )


def _edge_word(hits: float, reachable: bool) -> str:
    if hits >= 0.5:
        return "holds"
    if hits >= 0.1:
        return "depends on the cluster"
    return "only at the edge of memory" if reachable else "does not hold"


def _smallest(rows: list[Row], like: Row) -> int:
    """Devices of the smallest tested cluster of that kind on which both sides fit."""
    same = ("accelerator", "precision", "efficiency")
    return min(row["devices"] for row in rows if all(row[name] == like[name] for name in same))


def _reachable(rows: list[Row], claimed: float) -> str:
    """Where some q gives the claimed ratio."""
    return table(
        (
            "accelerator",
            "devices",
            "formats",
            "efficiencies",
            f"q that gives {claimed:g}x",
            "ratio at the law's q",
        ),
        [
            (
                style.name_of(row["accelerator"]),
                str(row["devices"]),
                TITLES[row["precision"]],
                row["efficiency"],
                f"{row['q_of_claim']:.2f}",
                times(row["ratio"]),
            )
            for row in sorted(
                rows, key=lambda row: (row["efficiency"], row["precision"], row["accelerator"])
            )
        ],
    )


def _spread(rows: list[Row], inputs: Row) -> str:
    """The ratio over all clusters, by formats and efficiencies."""
    lines = []
    for efficiency in inputs["efficiencies"]:
        for precision in inputs["precisions"]:
            kept = [
                row["ratio"]
                for row in rows
                if (row["precision"], row["efficiency"]) == (precision, efficiency)
            ]
            if kept:
                numbers = times(min(kept)), times(float(np.median(kept))), times(max(kept))
                lines.append((TITLES[precision], efficiency, str(len(kept)), *numbers))
    return table(("formats", "efficiencies", "clusters", "least", "median", "most"), lines)


# ---- over context --------------------------------------------------------------------------------


def over_context(book: Book) -> Claim:
    """DeepSeek-V3, Qwen3 and Grok-1 over context."""
    found = book.of("context_claim")
    inputs = found.record["inputs"]
    lines, starts, peaks = [], [], []
    for model in inputs["models"]:
        for cluster in inputs["clusters"]:
            count, name = cluster.split("x", 1)
            cells = []
            for efficiency in ("fitted", "ideal"):
                rows = found.rows(
                    model=model, cluster=cluster, efficiency=efficiency, law=inputs["law"]
                )
                peak = max((row for row in rows if row["ratio"]), key=lambda row: row["ratio"])
                start = next((row["context"] for row in rows if dense_wins(row)), None)
                cells += [
                    "never" if start is None else tokens(start),
                    f"{times(peak['ratio'])} at {tokens(peak['context'])}",
                ]
                if efficiency == "fitted":
                    starts += [] if start is None else [start]
                    peaks.append(peak["ratio"])
            lines.append((style.name_of(model), f"{count} {style.name_of(name)}", *cells))
    first, last = tokens(min(starts)), tokens(max(starts))
    text = paragraph(
        "The MoE wins short contexts and the dense twin long ones: with fitted efficiencies the "
        "twin begins to win between",
        f"{first} and {last} tokens. Its advantage peaks between {times(min(peaks))} and "
        f"{times(max(peaks))} and",
        "falls again, as both",
        "sides then spend their time on a cache that is the same. The winner is the same at both "
        "ends of q's 80 % interval in",
        f"{share(_same_verdict(found))} of the points.",
    )
    head = (
        "model",
        "cluster",
        "dense wins from (fitted)",
        "most (fitted)",
        "dense wins from (ideal)",
        "most (ideal)",
    )
    return Claim(
        "at long context dense wins: Qwen3-235B, Grok-1, DeepSeek-V3",
        "holds in direction; small" if max(peaks) < 2.0 else "holds",
        f"dense wins from {first} to {last} tokens on; at most {times(max(peaks))} (fitted)",
        section(
            "### Over context: DeepSeek-V3, Qwen3-235B-A22B, Grok-1",
            book.picture("context_claim", "Ratio of throughputs along context length"),
            text,
            table(head, lines),
            made_by("context_claim"),
        ),
    )


def _same_verdict(found: Evidence) -> float:
    """Share of the fitted points whose winner is the same at both ends of the interval of q."""
    ends = [found.rows(efficiency="fitted", law=law) for law in ("low", "high")]
    pairs = [pair for pair in zip(*ends, strict=True) if all(row["ratio"] for row in pair)]
    return float(np.mean([low["verdict"] == high["verdict"] for low, high in pairs]))


# ---- Switch-C ------------------------------------------------------------------------------------


def switch(book: Book) -> Claim:
    """Switch-C's clusters, in bf16 with fitted efficiencies."""
    found = book.of("switch_claim")
    inputs = found.record["inputs"]
    chosen = {"precision": "bf16", "efficiency": "fitted"}
    gaps = [
        row for row in found.rows(**chosen, multiple=1) if row["moe_devices"] > row["dense_devices"]
    ]
    at = {
        each: [row["ratio"] for row in found.rows(**chosen, multiple=each) if row["ratio"]]
        for each in inputs["multiples"]
    }
    just, more = inputs["multiples"][:2]
    flips = sum(ratio < 1.0 for ratio in at[more])
    dense, moe = ([row[f"{side}_devices"] for row in gaps] for side in ("dense", "moe"))
    ranges = f"{min(dense)} to {max(dense)}", f"{min(moe)} to {max(moe)}"
    lines = []
    for accelerator in inputs["accelerators"]:
        rows = {row["multiple"]: row for row in found.rows(**chosen, accelerator=accelerator)}
        one = next(iter(rows.values()))
        ends = (
            str(one[f"{side}_devices"] or f"over {inputs['most_devices']}")
            for side in ("dense", "moe")
        )
        lines.append(
            (
                style.name_of(accelerator),
                *ends,
                *(times(rows[each]["ratio"] if each in rows else None) for each in at),
            )
        )
    text = paragraph(
        "On all clusters between the two ends of a bar the dense match runs and Switch-C does not",
        f"({inputs['context']:g} tokens; the table is for bf16, fitted): on {len(gaps)} of",
        f"{len(inputs['accelerators'])} accelerators.",
        f"Where Switch-C just fits, the dense match is {times(min(at[just]))} to "
        f"{times(max(at[just]))} as fast; on",
        f"{more} times as many",
        f"devices Switch-C is the faster one on {flips} of {len(at[more])}, at a q s of "
        f"{gaps[0]['qs']:.3f}.",
    )
    head = (
        "accelerator",
        "dense match fits from",
        "Switch-C fits from",
        *("ratio there" if each == 1 else f"ratio at {each} times that" for each in at),
    )
    return Claim(
        "Switch-C does not fit where its dense match does",
        "holds, but turns where it fits" if flips > len(at[more]) / 2 else "holds",
        f"dense match from {ranges[0]} devices, Switch-C from {ranges[1]} (bf16, fitted)",
        section(
            "### Switch-C: clusters that hold only the dense match",
            book.picture("switch_claim", "Smallest clusters of Switch-C and of its dense match"),
            text,
            table(head, lines),
            made_by("switch_claim"),
        ),
    )


# ---- reuse ---------------------------------------------------------------------------------------


def reuse(book: Book) -> Claim:
    """Tokens per weight read, and what bounds the feed-forward layers."""
    found = book.of("reuse")
    most = max(row["limit"] for row in found.rows())
    rows = [row for row in found.rows(limit=most) if row["ratio"] is not None]
    bound = Counter(
        (side, row[f"{side}_compute_over_memory"] > 1.0)
        for row in rows
        for side in ("moe", "dense")
    )
    lines = [
        (
            style.name_of(row["model"]),
            tokens(row["context"]),
            *(f"{row[f'{side}_tokens_per_read']:.0f}" for side in ("moe", "dense")),
            *(f"{row[f'{side}_compute_over_memory']:.2f}" for side in ("moe", "dense")),
            times(row["ratio"]),
        )
        for row in rows
    ]
    wins = [row for row in rows if not dense_wins(row)]
    text = paragraph(
        "At the largest batch that memory allows, the MoE's feed-forward layers are bound by "
        "memory at",
        f"{bound['moe', False]} of {len(rows)} points and those of its dense twin at "
        f"{bound['dense', False]}. That",
        "is fragmentation; it does",
        "not settle who wins, as a dense layer that is bound by arithmetic works q times more for "
        "each token: the MoE wins",
        f"{len(wins)} of these points.",
    )
    head = (
        "model",
        "context",
        "tokens per read, MoE",
        "dense",
        "compute over memory, MoE",
        "dense",
        "dense over MoE",
    )
    return Claim(
        "experts fragment the reuse of weights",
        "holds" if bound["moe", False] > bound["dense", False] else "does not hold",
        f"bound by memory: MoE {bound['moe', False]}, dense {bound['dense', False]} of "
        f"{len(rows)} points",
        section(
            "### Reuse fragmentation",
            book.picture("reuse", "Tokens that share one read of a weight"),
            text,
            table(head, lines),
            made_by("reuse"),
        ),
    )


# ---- q s < 1 -------------------------------------------------------------------------------------


def predictor(book: Book) -> Claim:
    """q s < 1 as a predictor."""
    scores = book.of("qs_predictor").record["scores"]["fitted"]
    free, law = scores["free q"], scores["laws"]["geometric"]
    simple, merged = free["criteria"]["q s < 1"], free["criteria"]["merged roofline"]
    base = max(free["dense_wins"], 1.0 - free["dense_wins"])
    one_sided = simple["says_dense_wrongly"] > 3.0 * simple["says_moe_wrongly"]
    below = ", ".join(f"{share(value)} by {name}" for name, value in scores["qs_below_one"].items())
    rates = paragraph(
        f"By the laws q s is almost always below 1 ({below}): by the geometric law always, as q s "
        f"is then the square",
        "root of s.",
        f"So it cannot tell cases apart; dense wins {share(law['dense_wins'])} of the points with "
        f"the geometric q.",
        f"With q drawn freely, on both sides of 1, it calls {share(simple['accuracy'])} of "
        f"{free['points']:,} points",
        "right (always naming the",
        f"more frequent winner: {share(base)}). It says dense where the MoE wins in",
        f"{share(simple['says_dense_wrongly'])} of all points, and MoE",
        f"where dense wins in {share(simple['says_moe_wrongly'])}.",
        "**Above 1 the MoE nearly always wins; below 1 dense need not.**" if one_sided else "",
    )
    best, drawn = scores["best_qs"], book.of("qs_predictor").record["inputs"]["qs"]
    level = paragraph(
        f"As an order of cases q s is better than its threshold: with q s drawn between "
        f"{drawn[0]:g} and",
        f"{drawn[1]:g} (evenly in log),",
        f"q s < {best['level']:.2g} would have called {share(best['accuracy'])} right, but that "
        f"level is chosen on",
        "the same points.",
    )
    better = paragraph(
        "Closer without a search: merge the cluster into one device of its whole memory, "
        "bandwidth and arithmetic, without",
        "communication, let each side hold as many sequences as fit, and compare the time of all "
        "operators (`merged",
        "roofline`):",
        f"{share(merged['accuracy'])} right, AUC {merged['area']:.2f}; q s < 1 has "
        f"{share(simple['accuracy'])} and",
        f"{simple['area']:.2f}.",
        "A logistic fit on that, q s, bytes per token and five shares gets",
        f"{share(free['criteria']['fitted, unseen models']['accuracy'])} on models and",
        f"{share(free['criteria']['fitted, unseen accelerators']['accuracy'])} on accelerators "
        f"that it has not seen.",
    )
    criteria = [
        (
            name,
            share(rate["accuracy"]),
            f"{rate['area']:.2f}",
            share(law["criteria"][name]["accuracy"]),
            share(law["criteria"][name]["balanced_accuracy"]),
        )
        for name, rate in free["criteria"].items()
    ]
    regimes = []
    for name in REGIMES:
        part = scores["regimes"][name]
        if part["points"]:
            rate = part["criteria"]["q s < 1"]
            cells = (
                share(rate[key]) for key in ("accuracy", "says_dense_wrongly", "says_moe_wrongly")
            )
            regimes.append(
                (
                    name,
                    str(part["points"]),
                    *cells,
                    share(part["criteria"]["merged roofline"]["accuracy"]),
                )
            )
    return Claim(
        "q s < 1 tells who wins",
        "one-sided: only q s > 1 tells" if one_sided else "a rough guide",
        f"{share(simple['accuracy'])} right; a merged roofline {share(merged['accuracy'])} (q "
        f"drawn freely)",
        section(
            "### q s < 1 as a predictor",
            book.picture(
                "qs_predictor",
                "How often q s < 1 calls the winner, by regime, and which criterion does better",
            ),
            rates,
            level,
            better,
            table(
                (
                    "criterion",
                    "right, free q",
                    "AUC, free q",
                    "right, geometric q",
                    "balanced, geometric q",
                ),
                criteria,
            ),
            "Where it fails (free q):",
            table(
                (
                    "what decides the MoE's step",
                    "points",
                    "right",
                    "says dense, MoE wins",
                    "says MoE, dense wins",
                    "merged right",
                ),
                regimes,
            ),
            made_by("qs_predictor"),
        ),
    )
