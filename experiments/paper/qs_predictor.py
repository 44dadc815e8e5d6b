"""How often does q s < 1 call the winner right, where does it fail, and which criterion predicts
better?

`python -m experiments.paper.qs_predictor` writes every scenario with its winner and what the
criteria see of it, the scores of the criteria, and a figure of them, into `results/qs_predictor`.

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

from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.paper import claims, predictor_scores
from experiments.paper.predictor_figure import draw
from experiments.paper.predictor_scores import FLOOR, REGIMES, all_scores
from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.comparison.merged import MergedRoofline, criteria, merged_rooflines
from qsopt.comparison.twin import aligned, smallest_q
from qsopt.deployments.capped import NO_CAP
from qsopt.physics.step import OPERATORS
from qsopt.quality import BAND
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Layers, Model, MoeFfn, map_ffn, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

FREE = 2
"""Values of q drawn freely in each scenario."""

COMMUNICATION = [place for place, name in enumerate(OPERATORS) if "communication" in name]


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


def compared_scenarios(
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
    """All scenarios of one model, each for several q."""
    random = np.random.default_rng([seed, zlib.crc32(model.encode()), variation])
    moe = load_model(model) if variation == 0 else varied(load_model(model), random)
    share, least = claims.active_share(moe), float(smallest_q(moe))
    values = claims.law_values(moe, model_facts(model).training_tokens)
    by_law = [(law, values[law]) for law in BAND if law in values]
    kernels, points, labels = load_efficiency(efficiency), [], []
    for _ in range(scenarios):
        name, cluster, workload = random_service(random, devices, accelerators, contexts)
        cap = random_cap(random, most_sequences)
        free = np.exp(random.uniform(np.log(qs[0]), np.log(qs[1]), FREE)) / share
        service = Service(cluster, workload, kernels)
        for law, q in [*by_law, *(("free", float(q)) for q in free)]:
            if q > least:
                points.append(claims.Point(service, q, cap))
                labels.append({"accelerator": name, "law": law})
    about = {"model": model, "variation": variation, "efficiency": efficiency}
    sides = zip(labels, points, claims.outcomes(moe, points), _merged(moe, points), strict=True)
    return [
        {**about, **label, **numbers(moe, point, outcome, share), **terms(point, *rooflines)}
        for label, point, outcome, rooflines in sides
        if outcome.verdict not in ("both infeasible", "tie")
    ]


def random_service(
    random: np.random.Generator,
    devices: Sequence[int],
    accelerators: Sequence[str],
    contexts: Sequence[float],
) -> tuple[str, Cluster, Workload]:
    """An accelerator, a cluster of it, and a context that is a power of two."""
    count, name = int(random.choice(devices)), str(random.choice(accelerators))
    power = random.integers(*np.log2(contexts).astype(int), endpoint=True)
    return name, load_cluster(f"{count}x{name}"), Workload(context=2.0**power)


def random_cap(random: np.random.Generator, most: int) -> float:
    """No limit on the sequences, or a power of two, as often."""
    if random.random() < 0.5:
        return NO_CAP
    return 2.0 ** random.integers(0, int(np.log2(most)), endpoint=True)


def numbers(moe: Model, point: claims.Point, outcome: claims.Outcome, share: float) -> Row:
    """A point and what became of it; `share` is s of the MoE."""
    return {
        "devices": int(point.service.cluster.devices),
        "context": float(point.service.workload.context),
        "cap": None if point.cap == NO_CAP else point.cap,
        "q": point.q,
        "qs": point.q * share,
        **claims.summary(outcome),
        "regime": regime(moe, outcome),
    }


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


def regime(moe: Model, outcome: claims.Outcome) -> str:
    """What decides the MoE's step at its optimum."""
    if outcome.ratio is None:
        return REGIMES[0]
    reached, routed = outcome.moe.metrics, moe_layers(moe)
    assert routed is not None
    spent = reached.breakdown
    step, memory = float(np.sum(spent.seconds)), float(np.sum(spent.memory))
    messages = float(np.sum(spent.seconds[COMMUNICATION]))
    launches = float(np.sum(spent.latency) - np.sum(spent.latency[COMMUNICATION]))
    applies = (
        False,
        messages > 0.3 * step,
        launches > 0.3 * step,
        float(reached.experts_hit) < 0.9 * float(routed.experts),
        float(np.sum(spent.compute)) > memory,
        float(spent.memory[OPERATORS.index("attention core")]) > 0.5 * memory,
        True,
    )
    return REGIMES[applies.index(True)]


def _merged(
    moe: Model, points: Sequence[claims.Point]
) -> list[tuple[MergedRoofline, MergedRoofline]]:
    """Both sides of each point on the merged device."""
    whole, twins = aligned(moe, moe), claims.exact_twins(moe, [point.q for point in points])
    moes = merged_rooflines([point.served(whole) for point in points])
    denses = merged_rooflines([point.served(twins[point.q]) for point in points])
    return list(zip(moes, denses, strict=True))


def terms(point: claims.Point, moe: MergedRoofline, dense: MergedRoofline) -> dict[str, float]:
    """What the criteria see of a point; a ratio above 1 speaks for dense."""
    cluster, ratios = point.service.cluster, criteria(moe, dense)
    return {
        "bytes": _bounded(float(ratios.bytes_per_token)),
        "roofline": _bounded(float(ratios.throughput)),
        "hit": float(moe.experts_hit),
        "cache": float(moe.attention),
        "weights": float(moe.weights),
        "compute": float(moe.compute_over_memory),
        "domains": max(1.0, float(cluster.devices / cluster.accelerator.scale_up_devices)),
    }


def _bounded(ratio: float) -> float:
    """A ratio within bounds, 1 where neither side is possible."""
    return 1.0 if np.isnan(ratio) else float(np.clip(ratio, FLOOR, 1.0 / FLOOR))


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
        rows = [
            row
            for piece in run.pieces(keys, compared_scenarios, (claims, predictor_scores))
            for row in piece
        ]
        by_set = {efficiency: all_scores(rows, efficiency) for efficiency in settings.efficiencies}
        first = settings.efficiencies[0]
        run.write(
            rows,
            lambda kept: draw([row for row in kept if row["efficiency"] == first], by_set[first]),
            scores=by_set,
        )


if __name__ == "__main__":
    study.start(main, Settings, "qs_predictor")
