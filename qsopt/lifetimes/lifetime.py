"""Whether to train an MoE and serve it, its dense match, or a match that the MoE was distilled to:
what each costs, and at how many served tokens the order changes.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.comparison.compare import COMPARED
from qsopt.comparison.dense import MatchKind, dense_match, least_q
from qsopt.errors import InputError, exactly
from qsopt.lifetimes.break_even import BreakEven, Line, break_evens, crossing
from qsopt.lifetimes.draws import NODES, Node, SpeedErrors, lines
from qsopt.lifetimes.plans import LifetimePlan, Training, plans, training
from qsopt.lifetimes.running import Running, Setting, setting
from qsopt.lifetimes.training import STUDENT_SHARE, Trainer
from qsopt.quality import QDistribution
from qsopt.quality.belief import Belief
from qsopt.record import Record, Result
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service

KnownErrors = Callable[[Model, Running, Running], SpeedErrors | None]
"""How far the speeds of the MoE and of a match are off, by the match and how both are served."""

FACTORS = (0.25, 4.0)
"""By which each input is moved, to see what would change the answer."""


class LifetimeQuestion(NamedTuple):
    """What is asked."""

    model: Model
    """The MoE."""
    service: Service
    trainer: Trainer
    tokens: float
    """Of training, for the MoE and for its match [tokens]."""
    believed: Belief
    """What is believed of q."""
    kind: MatchKind
    """Of the match."""
    named: Model | None = None
    """The match itself where it is a model that exists."""
    student_share: float | None = None
    """Tokens of distillation over those of training; None where they are not known."""
    of_server: bool = True
    """Whether times are those of a server."""
    by_law: Mapping[str, float] = MappingProxyType({})
    """Other values of q, by the law that they are of."""
    seed: int = 0
    """Of the draws."""


class MovedInput(NamedTuple):
    """What an input would do to the answer."""

    input: str
    value: float
    tokens: float
    """Served output tokens from which the other of MoE and dense match is cheaper; infinite where
    never.
    """
    first: str
    """Which of both is cheaper until then."""


class LawOpinion(NamedTuple):
    """What one law says."""

    law: str
    q: float
    dense: float
    """Served output tokens from which its dense match is cheaper than the MoE; infinite where
    never.
    """
    distilled: float
    """The same of the distilled match."""


class Lifetime(Result, Record):
    """What three ways to have a model cost."""

    plans: dict[str, LifetimePlan]
    """By name: `moe`, `dense`, `distilled`."""
    break_evens: list[BreakEven]
    """In money, of every two of them."""
    energy: list[BreakEven]
    """In energy, without draws; none where a power limit is not known."""
    changes: list[MovedInput] = eqx.field(repr=False)
    """Of the order of `moe` and `dense`."""
    laws: list[LawOpinion] = eqx.field(repr=False)
    match: Model = eqx.field(repr=False)
    """The dense match."""
    q: float = 1.0
    share: float = STUDENT_SHARE[1]
    """Tokens of distillation over those of training."""


def lifetime(asked: LifetimeQuestion, errors: KnownErrors) -> Lifetime:
    """The three ways, with the served tokens at which their order changes.

    Args:
        asked: the question.
        errors: how far speeds are off.

    Raises:
        InputError: if the model has no routed experts, the share of tokens is out of range, or
            nothing can be served.
    """
    routed_layers(asked.model, COMPARED)
    share = checked_share(asked.student_share)
    q = asked.believed.q
    match = _match(asked, q)
    where = setting(asked.model, match, asked.service, asked.kind, asked.of_server)
    moe, centre = where.moe(), _node(asked, where, q, match)
    if not moe.throughput and not centre.running.throughput:
        raise InputError("neither the MoE nor its dense match can be served within the limits")
    chosen = _plans(asked, centre, moe, share)
    known = errors(match, moe, centre.running)
    drawn = lines(
        asked.trainer,
        moe,
        [*_nodes(asked, where, centre)],
        asked.student_share,
        _distribution(asked) or q,
        known,
        asked.seed,
    )
    costs = {name: _dollars(plan) for name, plan in chosen.items()}
    return Lifetime(
        chosen,
        break_evens(costs, drawn),
        _in_energy(chosen),
        [*_changes(asked, match, centre.spent, costs)],
        [*_laws(asked, where, moe, share)],
        match,
        q,
        share,
    )


def checked_share(share: float | None) -> float:
    """The share that is taken: as given, or the middle one.

    Raises:
        InputError: if it is out of range.
    """
    if share is not None and not 0.0 < share <= 1.0:
        raise InputError(
            f"student_share = {exactly(share)}: give a share of the training tokens, as 0.2"
        )
    return STUDENT_SHARE[1] if share is None else share


def _match(asked: LifetimeQuestion, q: float) -> Model:
    if asked.named is not None:
        return asked.named
    return dense_match(asked.model, scalar(q), asked.kind)


def _node(asked: LifetimeQuestion, where: Setting, q: float, match: Model | None = None) -> Node:
    """The match of a q, with distillation on as many tokens as training."""
    dense = _match(asked, q) if match is None else match
    sequence = float(asked.trainer.sequence)
    spent = training(asked.model, dense, asked.tokens, asked.tokens, sequence)
    return Node(q, spent, where.match(dense))


def _distribution(asked: LifetimeQuestion) -> QDistribution | None:
    """Of q; None where it is certain."""
    return None if asked.named is not None else asked.believed.distribution


def _sizes(asked: LifetimeQuestion) -> list[float]:
    """Values of q that are searched for the draws, increasing; one where q is certain."""
    distribution = _distribution(asked)
    if distribution is None:
        return [asked.believed.q]
    least = float(least_q(asked.model, asked.kind))
    quantiles = (float(distribution.quantile(probability)) for probability in NODES)
    return sorted({max(q, least, 1.0) for q in quantiles})


def _nodes(asked: LifetimeQuestion, where: Setting, centre: Node) -> Iterator[Node]:
    for q in _sizes(asked):
        yield centre if q == centre.q else _node(asked, where, q)


def _plans(
    asked: LifetimeQuestion, node: Node, moe: Running, share: float
) -> dict[str, LifetimePlan]:
    spent = node.spent._replace(distillation=node.spent.distillation * share)
    return plans(spent, asked.trainer, moe, node.running)


def _dollars(plan: LifetimePlan) -> Line:
    return Line(np.asarray(plan.fixed), np.asarray(plan.running.dollars))


def _in_energy(chosen: dict[str, LifetimePlan]) -> list[BreakEven]:
    joules = {
        name: Line(np.asarray(plan.fixed_joules), np.asarray(plan.running.joules))
        for name, plan in chosen.items()
    }
    if any(np.isnan(line.fixed) or np.isnan(line.slope) for line in joules.values()):
        return []
    return break_evens(joules, joules)


def _laws(
    asked: LifetimeQuestion, where: Setting, moe: Running, share: float
) -> Iterator[LawOpinion]:
    for law, q in asked.by_law.items():
        chosen = _plans(asked, _node(asked, where, q), moe, share)
        costs = {name: _dollars(plan) for name, plan in chosen.items()}
        tokens = (float(crossing(costs["moe"], costs[name])) for name in ("dense", "distilled"))
        yield LawOpinion(law, q, *tokens)


# ---- what would change it ------------------------------------------------------------------------


def _changes(
    asked: LifetimeQuestion, match: Model, spent: Training, costs: dict[str, Line]
) -> Iterator[MovedInput]:
    """What a quarter and four times of each input would do."""
    for factor in FACTORS:
        for name, service in _moved(asked.service, factor):
            where = setting(asked.model, match, service, asked.kind, asked.of_server)
            moved = plans(spent, asked.trainer, where.moe(), where.match(match))
            value = float(getattr(service.workload, name))
            yield _change(name, value, {each: _dollars(plan) for each, plan in moved.items()})
        price = float(asked.service.cluster.accelerator.price_per_hour) * factor
        dearer = {name: Line(line.fixed, line.slope * factor) for name, line in costs.items()}
        yield _change("price of serving", price, dearer)


def _moved(service: Service, factor: float) -> Iterator[tuple[str, Service]]:
    names = ("decode_context",) if service.workload.prompt is None else ("prompt", "answer")
    for name in names:

        def number(tree: Service, field: str = name) -> Any:
            return getattr(tree.workload, field)

        moved = np.asarray(float(number(service)) * factor)
        yield name.removeprefix("decode_"), eqx.tree_at(number, service, moved)


def _change(name: str, value: float, costs: dict[str, Line]) -> MovedInput:
    first, later = sorted(("moe", "dense"), key=lambda each: float(costs[each].fixed))
    return MovedInput(name, value, float(crossing(costs[first], costs[later])), first)
