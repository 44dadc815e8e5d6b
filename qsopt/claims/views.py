"""Two ways to ask a claim's question: as the paper argues, and as qsopt counts."""

from dataclasses import dataclass

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model, model_facts, trained_context
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import RELEASED, SAME_BODY, MatchKind, dense_match
from qsopt.comparison.duel import layouts_of, throughput_of
from qsopt.comparison.twin import aligned, qs_numbers
from qsopt.deployments.batches import repeat
from qsopt.deployments.optimum import searched
from qsopt.fitted.expected import efficiency_for
from qsopt.quality import law
from qsopt.quality.belief import DEFAULT, belief
from qsopt.spec.formats import number_format
from qsopt.spec.model import Model
from qsopt.spec.rules import NO_SLOTS, LayoutRules
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

PARTS = ("attention", "ffn", "experts", "tables")
"""Of the weights."""


@dataclass(frozen=True)
class View:
    """What is assumed of both sides."""

    name: str
    law: str
    """That gives q."""
    raw: bool
    """Whether q is the bare law's."""
    kind: MatchKind
    efficiency: str
    assume: str
    rules: LayoutRules


ARGUED = View(
    "as argued",
    "geometric",
    True,
    SAME_BODY,
    "ideal",
    "merged_dispatch=0,shared_links=0",
    LayoutRules(dcp=1, expert_slots=NO_SLOTS, whole_domains=False),
)
"""The roofline, q of the geometric mean, the MoE's own body with one wide feed-forward layer."""

COUNTED = View("as counted", DEFAULT, False, RELEASED, "fitted", "", LayoutRules())
"""What servers reach, the calibrated law, the shape of released dense models."""

VIEWS = (ARGUED, COUNTED)


def model_of(name: str, weights: str | None = None) -> Model:
    """A model of the catalog, in its own formats or with all weights in one."""
    model = load_model(name)
    for part in PARTS if weights is not None else ():
        form = number_format(weights or "")
        model = eqx.tree_at(lambda m, part=part: getattr(m.precision, part), model, form)
    return model


def longest_context(name: str) -> float:
    """Tokens of context that a model of the catalog was made for; infinite where nobody says."""
    trained = trained_context(name)
    return np.inf if trained is None else trained


def service_of(view: View, cluster: str, context: float) -> Service:
    """A cluster at a context, as a view has it."""
    found = load_cluster(cluster)
    efficiency = efficiency_for(view.efficiency, found.accelerator, view.assume)
    return Service(found, Workload(context), efficiency, view.rules)


def match_of(view: View, model: Model, name: str) -> tuple[float, Model]:
    """q of a model by its name, and its dense match."""
    q = belief(model, law(view.law), model_facts(name).training_tokens, view.raw).q
    return q, dense_match(model, scalar(q), view.kind)


def outcome(
    view: View, name: str, cluster: str, context: float, weights: str | None = None
) -> dict[str, object]:
    """Both sides at their exact optimum, as a row."""
    model, service = model_of(name, weights), service_of(view, cluster, context)
    q, match = match_of(view, model, name)
    moe, dense = (throughput_of(side, model, service) for side in (model, match))
    return {
        "view": view.name,
        "model": name,
        "cluster": cluster,
        "context": context,
        "beyond_trained_context": context > longest_context(name),
        "q": q,
        "qs": float(qs_numbers(model, scalar(q)).qs),
        "moe_tokens_per_s": moe,
        "dense_tokens_per_s": dense,
        "ratio_dense_over_moe": dense / moe if moe and dense else None,
        "verdict": verdict(moe, dense),
    }


def smallest_replica(side: Model, like: Model, service: Service) -> int | None:
    """Devices of the smallest replica of a side that keeps the limits; None where a cluster holds
    none. A deployment fits whatever the number of its replicas, so this is the smallest cluster.
    """
    layouts = layouts_of(side, service)
    reached = searched(repeat(aligned(side, like), 1), service, layouts).throughputs[0]
    sizes = np.asarray(layouts.replica_devices)[np.asarray(reached) > 0.0]
    return int(sizes.min()) if len(sizes) else None
