"""The best way to serve a model's requests: the search over all candidates, for one model or for
many of one structure.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import length, repeat, stack, take
from qsopt.deployments.best import EQUAL
from qsopt.deployments.layouts import legal_layouts
from qsopt.errors import InputError
from qsopt.record import Record
from qsopt.serving.candidates import Candidates, Groups, candidates, grouped
from qsopt.serving.optimum import Best, Found, best_one_pool, search
from qsopt.serving.pairs import Pairs, best_disaggregated, pairs_of
from qsopt.serving.plan import WAYS, Plan
from qsopt.serving.replica import Served
from qsopt.serving.speculation import Draft, check_draft
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import Model
from qsopt.spec.service import Service

SEARCHED = WAYS[1:]
"""Ways that requests are served in."""


class BestWays(Record):
    """The best plan of each way, and which of them serves most."""

    mixed: Best
    alternating: Best
    disaggregated: Best

    @property
    def throughputs(self) -> np.ndarray:
        """In the order of `SEARCHED`, 0 where a way is infeasible [tokens/s]."""
        return np.stack([getattr(self, way).throughput for way in SEARCHED], axis=-1)

    @property
    def index(self) -> Int[np.ndarray, ""]:
        """Of `SEARCHED`: the first way within rounding of the best."""
        reached = self.throughputs
        most = np.max(reached, axis=-1, keepdims=True)
        return np.argmax(reached >= most * (1.0 - EQUAL), axis=-1)

    @property
    def throughput(self) -> Scalar:
        """Of the best way, 0 where none is feasible [tokens/s]."""
        return np.max(self.throughputs, axis=-1)

    @property
    def feasible(self) -> Bool[np.ndarray, ""]:
        """Whether any way keeps the limits."""
        return self.throughput > 0.0

    def best(self) -> tuple[str, Plan]:
        """The best way and its plan (concrete values only)."""
        way = SEARCHED[int(self.index)]
        return way, getattr(self, way).plan


class Settled(Record):
    """What a search knows of all candidates."""

    found: Found
    pairs: Pairs


class Searched(Settled):
    """The same where the best of every way was looked for."""

    ways: BestWays


def lists(layouts: Deployment, ways: tuple[str, ...] = SEARCHED) -> tuple[Candidates, Groups]:
    """All candidates of some layouts in some ways.

    Raises:
        InputError: if a way is unknown.
    """
    for way in ways:
        if way not in SEARCHED:
            raise InputError(f"way of serving '{way}': take one of {', '.join(SEARCHED)}")
    return grouped(candidates(layouts, ways))


def searched(
    served: Served,
    every: Candidates,
    groups: Groups,
    keep: float = 1.0,
    found: Found | None = None,
) -> Searched:
    """The best of every way, and what is known of every candidate.

    Args:
        served: model, service and draft.
        every: from `lists`.
        groups: from `lists`.
        keep: see `optimum.search`.
        found: what is known already.
    """
    found = search(served, every, keep, found)
    pairs = pairs_of(served, every, groups, found)
    best = BestWays(
        best_one_pool(every, found, 0),
        best_one_pool(every, found, 1),
        best_disaggregated(served, every, groups, found, pairs),
    )
    return Searched(found, pairs, best)


def best_ways(
    model: Model, service: Service, draft: Draft | None = None, ways: tuple[str, ...] = SEARCHED
) -> BestWays:
    """The best plan of each way for one model, exactly, over all layouts that the service allows.

    Raises:
        InputError: if the workload has no prompt and answer, a way is unknown, or the draft speaks
            another vocabulary.
    """
    served = jax.tree.map(np.asarray, asked(model, service, draft))
    return searched(served, *lists(layouts_of(model, service), ways)).ways


def asked(model: Model, service: Service, draft: Draft | None = None) -> Served:
    """What is to be served, if it can be.

    Raises:
        InputError: if the workload is no workload of requests, or the draft speaks another
            vocabulary.
    """
    if service.workload.prompt is None:
        raise InputError(
            "the workload has a context alone, which is decode alone: give a prompt and an answer"
        )
    if draft is not None:
        check_draft(model, draft)
    return Served(model, service, draft)


def layouts_of(model: Model, service: Service) -> Deployment:
    """The layouts that a service allows a model."""
    return legal_layouts(model, service.cluster, service.rules)


def best_ways_of_each(
    models: Model,
    service: Service,
    every: Candidates,
    groups: Groups,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
) -> BestWays:
    """The best plan of each way for each of a batch of models of one structure.

    Args:
        models: a batch of models, such as both sides of a comparison aligned to one structure.
        service: what they are served on and for.
        every: from `lists`, of the layouts of all.
        groups: from `lists`.
        worlds: as many worlds as models; things as they are if left out.
        efficiencies: as many efficiency sets as models; the service's own if left out.
    """
    count = length(models)
    worlds = repeat(ACTUAL, count) if worlds is None else worlds
    sets = repeat(service.efficiency, count) if efficiencies is None else efficiencies
    found = []
    for place in range(count):
        model, world, efficiency = take((models, worlds, sets), place)
        with_set = eqx.tree_at(lambda s: s.efficiency, service, efficiency)
        served = jax.tree.map(np.asarray, Served(model, with_set, world=world))
        found.append(searched(served, every, groups).ways)
    return stack(found)
