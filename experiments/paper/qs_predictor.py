"""How often does q s < 1 call the winner right, where does it fail, and which criterion predicts
better?

Scenarios are drawn at random: a model of the catalog or a variation of one (experts, top-k, width),
an accelerator, a number of devices, a context, and no limit or some limit on the sequences that
decode at once. In each the twin is compared for the q of every law of the band and for values drawn
freely, so that q s lies on both sides of 1. Truth is the exact optimum of both sides. The fitted
criterion is judged on models and on accelerators that it has not seen.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.paper import claims, criterion
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.comparison.twin import aligned, smallest_q
from qsopt.deployments.capped import NO_CAP, ServedModel
from qsopt.physics.step import OPERATORS
from qsopt.quality import BAND
from qsopt.spec.model import Layers, Model, MoeFfn, map_ffn, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

FOLDS = 5
"""Groups of models that are left out in turn."""

FREE = 2
"""Values of q drawn freely in each scenario."""

REGIMES = (
    "a side does not fit",
    "communication",
    "latency",
    "few experts hit",
    "compute-bound",
    "cache dominates",
    "weights dominate",
)
"""What decides the MoE's step at its optimum; the first that applies."""

COMMUNICATION = [place for place, name in enumerate(OPERATORS) if "communication" in name]

TERMS = ("qs", "bytes", "roofline", "hit", "cache", "held", "compute", "domains")
"""Terms of the fitted criterion, each as a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """What is drawn from."""

    leave_out: tuple[str, ...]
    """Models of the catalog that are not drawn."""
    synthetic: int
    """Variations of each model of the catalog."""
    scenarios: int
    """For each model."""
    devices: tuple[int, ...]
    accelerators: tuple[str, ...]
    contexts: tuple[float, float]
    """Powers of two from the first to the last [tokens]."""
    most_sequences: int
    """Largest limit on the sequences of a cluster; half of the scenarios have none."""
    qs: tuple[float, float]
    """Range of q s where q is drawn freely."""
    efficiencies: tuple[str, ...]


# ---- points --------------------------------------------------------------------------------------


def rows_of(
    model: str,
    variation: int,
    efficiency: str,
    seed: int,
    scenarios: int,
    devices: Sequence[int],
    accelerators: Sequence[str],
    contexts: Sequence[float],
    most_sequences: int,
    qs: Sequence[float],
) -> list[Row]:
    """All scenarios of one model."""
    random = np.random.default_rng([seed, zlib.crc32(model.encode()), variation])
    moe = load_model(model) if variation == 0 else varied(load_model(model), random)
    least = float(smallest_q(moe))
    experts = float(moe_layers(moe).experts)  # pyright: ignore[reportOptionalMemberAccess]
    share, kernels = claims.active_share(moe), efficiency_set(efficiency)
    laws = claims.law_values(moe, model_facts(model).training_tokens)
    points, about = [], []
    for _ in range(scenarios):
        count, name = int(random.choice(devices)), str(random.choice(accelerators))
        cluster = load_cluster(f"{count}x{name}")
        workload = Workload(
            context=2.0 ** random.integers(*np.log2(contexts).astype(int), endpoint=True)
        )
        service = Service(cluster, workload, kernels)
        cap = (
            NO_CAP
            if random.random() < 0.5
            else 2.0 ** random.integers(0, int(np.log2(most_sequences)), endpoint=True)
        )
        free = np.exp(random.uniform(np.log(qs[0]), np.log(qs[1]), FREE)) / share
        chosen = [(law, laws[law]) for law in BAND if law in laws] + [
            ("free", float(q)) for q in free
        ]
        for law, q in chosen:
            if q > least:
                points.append(claims.Point(service, q, cap))
                about.append(
                    {
                        "model": model,
                        "variation": variation,
                        "efficiency": efficiency,
                        "accelerator": name,
                        "law": law,
                    }
                )
    return [
        {
            **start,
            "devices": int(point.service.cluster.devices),
            "context": float(point.service.workload.context),
            "cap": None if point.cap == NO_CAP else point.cap,
            "q": point.q,
            "qs": point.q * share,
            **claims.summary(outcome),
            "regime": regime(outcome, experts),
            **terms(point, *sides),
        }
        for start, point, outcome, sides in zip(
            about, points, claims.outcomes(moe, points), _merged(moe, points), strict=True
        )
        if outcome.verdict not in ("both infeasible", "tie")
    ]


def varied(model: Model, random: np.random.Generator) -> Model:
    """The model with its experts, top-k and expert width changed by powers of two."""
    experts, top_k, width = (
        2.0 ** random.integers(-2, 3),
        2.0 ** random.integers(-1, 2),
        2.0 ** random.integers(-1, 2),
    )

    def changed(group: Layers[Any]) -> Layers[Any]:
        kind = group.kind
        if not isinstance(kind, MoeFfn):
            return group
        count = max(2.0, float(kind.experts) * experts)
        active = float(np.clip(round(float(kind.top_k) * top_k), 1.0, count / 2.0))
        sizes = tuple(np.float64(value) for value in (count, active, float(kind.width) * width))
        return Layers(
            group.count, eqx.tree_at(lambda k: (k.experts, k.top_k, k.width), kind, sizes)
        )

    return map_ffn(model, changed)


def regime(outcome: claims.Outcome, experts: float) -> str:
    """What decides the MoE's step at its optimum."""
    if outcome.ratio is None:
        return REGIMES[0]
    found = outcome.moe.metrics
    spent = found.breakdown
    step, memory = float(np.sum(spent.seconds)), float(np.sum(spent.memory))
    messages = float(np.sum(spent.seconds[COMMUNICATION]))
    launches = float(np.sum(spent.latency) - np.sum(spent.latency[COMMUNICATION]))
    applies = (
        False,
        messages > 0.3 * step,
        launches > 0.3 * step,
        float(found.experts_hit) < 0.9 * experts,
        float(np.sum(spent.compute)) > memory,
        float(spent.memory[OPERATORS.index("attention core")]) > 0.5 * memory,
        True,
    )
    return REGIMES[applies.index(True)]


def _merged(
    moe: Model, points: Sequence[claims.Point]
) -> list[tuple[criterion.Merged, criterion.Merged]]:
    """Both sides of each point on the merged device."""
    whole = aligned(moe, moe)

    def case(model: Model, point: claims.Point) -> ServedModel:
        return ServedModel(model, point.service, point.cap)

    twins = claims.exact_twins(moe, [point.q for point in points])
    moes = criterion.merged_sides([case(whole, point) for point in points])
    denses = criterion.merged_sides([case(twins[point.q], point) for point in points])
    return list(zip(moes, denses, strict=True))


def terms(point: claims.Point, moe: criterion.Merged, dense: criterion.Merged) -> dict[str, float]:
    """What the criteria see of a point; a ratio above 1 speaks for dense."""
    cluster = point.service.cluster
    return {
        "bytes": _ratio(float(moe.bytes_per_token), float(dense.bytes_per_token)),
        "roofline": _ratio(float(dense.throughput), float(moe.throughput)),
        "hit": float(moe.hit),
        "cache": float(moe.cache),
        "held": float(moe.held),
        "compute": float(moe.compute),
        "domains": max(1.0, float(cluster.devices / cluster.accelerator.scale_up_devices)),
    }


def _ratio(above: float, below: float) -> float:
    """A ratio within bounds, 1 where neither side is possible."""
    if not above and not below:
        return 1.0
    return float(np.clip(above / max(below, 1e-300), criterion.FLOOR, 1.0 / criterion.FLOOR))


# ---- criteria ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Rows as columns."""

    rows: list[Row]

    @property
    def dense_wins(self) -> np.ndarray:
        """Truth."""
        return np.array([row["verdict"] in ("dense wins", "moe infeasible") for row in self.rows])

    def column(self, name: str) -> np.ndarray:
        """A column of numbers or texts."""
        return np.array([row[name] for row in self.rows])

    @property
    def terms(self) -> np.ndarray:
        """Logarithms of the fitted criterion's terms."""
        return np.log(
            np.maximum(np.stack([self.column(name) for name in TERMS], axis=1), criterion.FLOOR)
        )


def held_out(points: Points, group: np.ndarray) -> np.ndarray:
    """Probability that dense wins at each point, from a fit without the points of its group."""
    terms, truth, found = points.terms, points.dense_wins, np.empty(len(points.rows))
    for each in np.unique(group):
        out = group == each
        found[out] = criterion.fit(terms[~out], truth[~out]).probability(terms[out])
    return found


def predictions(points: Points) -> dict[str, np.ndarray]:
    """Score of each criterion at each point: the logarithm of odds for dense, so that it says dense
    above 0.
    """
    models = points.column("model")
    names = np.unique(models)
    fold = np.random.default_rng(0).permutation(len(names)) % FOLDS
    of_model = fold[np.searchsorted(names, models)]
    probability = {
        "fitted, unseen models": held_out(points, of_model),
        "fitted, unseen accelerators": held_out(points, points.column("accelerator")),
    }
    return {
        "q s < 1": -np.log(points.column("qs")),
        "bytes per token": np.log(points.column("bytes")),
        "merged roofline": np.log(points.column("roofline")),
        **{name: np.log(p / (1.0 - p)) for name, p in probability.items()},
    }


def scores(points: Points, found: dict[str, np.ndarray], keep: np.ndarray) -> dict[str, Any]:
    """How good every criterion is on some points."""
    truth = points.dense_wins[keep]
    if not len(truth):
        return {"points": 0}
    rates = {
        name: {
            "accuracy": criterion.accuracy(score[keep] > 0, truth),
            "balanced_accuracy": criterion.balanced_accuracy(score[keep] > 0, truth),
            "area": criterion.area(score[keep], truth),
            "says_dense_wrongly": float(np.mean((score[keep] > 0) & ~truth)),
            "says_moe_wrongly": float(np.mean((score[keep] <= 0) & truth)),
        }
        for name, score in found.items()
    }
    return {"points": len(truth), "dense_wins": float(truth.mean()), "criteria": rates}


def judged(rows: list[Row], efficiency: str) -> dict[str, Any]:
    """All scores for one efficiency set: overall, where both sides fit, by regime and by where q
    comes from.
    """
    points = Points([row for row in rows if row["efficiency"] == efficiency])
    found = predictions(points)
    regimes, laws = points.column("regime"), points.column("law")
    probability = 1.0 / (1.0 + np.exp(-found["fitted, unseen models"]))
    whole = criterion.fit(points.terms, points.dense_wins)
    free = laws == "free"
    level, right = criterion.best_threshold(found["q s < 1"][free], points.dense_wins[free])
    return {
        "all": scores(points, found, np.full(len(regimes), True)),
        "free q": scores(points, found, free),
        "best_qs": {"level": float(np.exp(-level)), "accuracy": right},
        "both fit, free q": scores(points, found, (regimes != REGIMES[0]) & free),
        "regimes": {name: scores(points, found, (regimes == name) & free) for name in REGIMES},
        "laws": {name: scores(points, found, laws == name) for name in BAND},
        "qs_below_one": {
            name: float(np.mean(points.column("qs")[laws == name] < 1)) for name in BAND
        },
        "reliability": criterion.reliability(probability, points.dense_wins),
        "weights": dict(zip((*TERMS, "constant"), whole.weights.tolist(), strict=True)),
        "scales": dict(zip(TERMS, whole.scale.tolist(), strict=True)),
    }


# ---- figure --------------------------------------------------------------------------------------


def draw(rows: list[Row], found: dict[str, Any]) -> Figure:
    """By regime how often q s < 1 errs and which way; accuracy of all criteria; reliability of the
    fitted probability.
    """
    figure, (left, middle, right) = style.subplots(
        1, 3, width=14.5, height=4.6, width_ratios=(1.25, 1.0, 0.8)
    )
    _errors(left, found)
    _accuracies(middle, found)
    _reliability(right, found)
    figure.suptitle(
        f"Does q s < 1 tell who wins? {found['all']['points']:,} points, both sides at their "
        f"optimum ({rows[0]['efficiency']})",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _errors(axes: Axes, found: dict[str, Any]) -> None:
    kept = [(name, part) for name, part in found["regimes"].items() if part["points"]]
    for place, (_, part) in enumerate(kept):
        rates = part["criteria"]["q s < 1"]
        left = 0.0
        for share, colour, text in (
            (rates["accuracy"], style.SKY, "right"),
            (rates["says_dense_wrongly"], style.ORANGE, "says dense, MoE wins"),
            (rates["says_moe_wrongly"], style.PURPLE, "says MoE, dense wins"),
        ):
            axes.barh(
                place,
                share,
                left=left,
                color=colour,
                height=0.7,
                label=text if place == 0 else None,
            )
            if share > 0.06:
                axes.text(
                    left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8
                )
            left += share
    axes.set_yticks(
        range(len(kept)), [f"{name}\n({part['points']} points)" for name, part in kept], fontsize=8
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.invert_yaxis()
    axes.set_title(
        "q s < 1 by what decides the MoE's step (q drawn freely)", loc="left", fontsize=9
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=3, fontsize=8, frameon=False)
    style.plain(axes)


def _accuracies(axes: Axes, found: dict[str, Any]) -> None:
    """Every criterion where q is drawn freely, and where it is that of the geometric law."""
    names = list(found["free q"]["criteria"])
    parts = (
        ("q drawn freely", found["free q"], style.BLUE),
        ("q by the geometric law", found["laws"]["geometric"], style.SKY),
    )
    for shift, (text, part, colour) in zip((-0.2, 0.2), parts, strict=True):
        rates = [part["criteria"][name]["accuracy"] for name in names]
        axes.barh(np.arange(len(names)) + shift, rates, color=colour, height=0.38, label=text)
        for place, name in enumerate(names):
            area = part["criteria"][name]["area"]
            note = f"{rates[place]:.0%}, AUC {area:.2f}"
            axes.text(
                0.41,
                place + shift,
                note,
                ha="left",
                va="center",
                fontsize=8,
                color=style.BLACK if shift > 0 else "white",
            )
        base = max(part["dense_wins"], 1.0 - part["dense_wins"])
        axes.axvline(base, color=colour, linewidth=1.5, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(0.4, 1.0)
    axes.set_xticks([0.4, 0.6, 0.8, 1.0], ["40%", "60%", "80%", "100%"])
    axes.invert_yaxis()
    axes.set_title(
        "points called right; dotted: always the more frequent winner", loc="left", fontsize=9
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=2, fontsize=8, frameon=False)
    style.plain(axes)


def _reliability(axes: Axes, found: dict[str, Any]) -> None:
    said, happened, count = np.array(found["reliability"]).T
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=1)
    axes.scatter(said, happened, s=12 + 120 * count / count.max(), color=style.BLUE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlabel("fitted probability (unseen models)")
    axes.set_ylabel("share that dense wins")
    axes.set_title("can the probability be believed?", loc="left", fontsize=9)
    style.plain(axes)


def main(settings: Settings) -> None:
    common = {
        "seed": settings.seed,
        "scenarios": settings.scenarios,
        "devices": list(settings.devices),
        "accelerators": list(settings.accelerators),
        "contexts": list(settings.contexts),
        "most_sequences": settings.most_sequences,
        "qs": list(settings.qs),
    }
    names = [name for name in model_names() if name not in settings.leave_out]
    routed = [name for name in names if moe_layers(load_model(name)) is not None]
    keys = [
        {**common, "model": name, "variation": variation, "efficiency": efficiency}
        for efficiency in settings.efficiencies
        for name in routed
        for variation in range(settings.synthetic + 1)
    ]
    with study.Study("qs_predictor", settings) as run:
        rows = [row for piece in run.pieces(keys, rows_of, (claims, criterion)) for row in piece]
        found = {efficiency: judged(rows, efficiency) for efficiency in settings.efficiencies}
        first = settings.efficiencies[0]
        run.write(
            rows,
            lambda kept: draw([row for row in kept if row["efficiency"] == first], found[first]),
            scores=found,
        )


if __name__ == "__main__":
    study.start(main, Settings, "qs_predictor")
