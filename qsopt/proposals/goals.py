"""The quality that a proposal must have, as the size of the dense model that has it.

By a law a model is as good as a dense model of N_d = q N_active parameters trained on as many
tokens; a dense one is itself (q = 1). The goal is

    N_d >= N*(D)

* as good as a model: N* is that model's own N_d, at its tokens;
* a loss L: N* solves L = E + A/N^alpha + B/D^beta, by the refit of Hoffmann et al. (Besiroglu et
  al. 2024, arXiv 2404.10102), at the tokens stated, or at those of the least compute that reaches
  L;
* a budget of C FLOP: L is the least loss that C buys of a dense model, and every design is trained
  on D = C / (6 N_active) tokens, so that one with fewer active parameters sees more of them.

q is the law's, moved by its mean error on the observed matches (see `quality.calibration`), and
stays between 1 and 1/s, where a match is neither smaller than the active parameters nor larger than
the whole model.
"""

import math
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.errors import InputError, exactly
from qsopt.physics.layer_weights import attention_weights
from qsopt.programs import compiled
from qsopt.quality import BESIROGLU, MoeArchitecture, QualityLaw, Status
from qsopt.quality.calibration import calibrate
from qsopt.quality.of_model import architecture
from qsopt.record import Record
from qsopt.spec.layers import Layers, MoeFfn
from qsopt.spec.model import Model, moe_group

NEVER = 1e18
"""A dense size that nothing has [parameters]."""

_MOST_TOKENS = 1e18


class Quality(Record):
    """How a law judges a design."""

    dense_size: Scalar = number()
    """N_d, the size of the dense model of its quality [parameters]."""
    needed: Scalar = number()
    """N*, the size of the dense model that the goal asks for [parameters]."""
    tokens: Scalar = number()
    """Training tokens D."""
    training_flops: Scalar = number()
    """6 N_active D [FLOP]."""
    total: Scalar = number()
    """Parameters, all tables counted."""
    active: Scalar = number()
    """Of them those of a token."""
    attention: Scalar = number()
    """Parameters of attention."""
    physical: Scalar = number()
    """1 where the law's match can be real, else 0."""

    @property
    def margin(self) -> Scalar:
        """log N_d/N*: at least 0 where the goal is met."""
        return jnp.log(self.dense_size / self.needed)


class Goal(eqx.Module):
    """What is asked of quality, by one law."""

    law: QualityLaw
    correction: Scalar = number()
    """What the observed matches add to log q."""
    size: Scalar = number()
    """N* where it is fixed [parameters]."""
    tokens: Scalar = number()
    """Training tokens where they are fixed."""
    budget: Scalar = number(0.0)
    """Training compute that all designs get; 0 where tokens are fixed [FLOP]."""
    loss: Scalar = number(0.0)
    """Of the goal, with a budget [nat]."""

    def scaled(self, factor: Scalar) -> "Goal":
        """The goal of a dense model so many times as large."""
        return eqx.tree_at(lambda goal: goal.size, self, self.size * factor)


class Counted(Record):
    """What a law sees of a design; every number is linear in its width."""

    seen: MoeArchitecture
    """Its training tokens are those of no goal."""
    routed: Scalar = number()
    """Layers with routed experts."""
    attention: Scalar = number()
    """Parameters of attention."""


def counted(model: Model) -> Counted:
    """A design counted; its model has a group of routed layers, which may be empty."""
    group = moe_group(model)
    assert group is not None
    return Counted(architecture(model), group.count, _attention(model))


def quality(design: Counted, goal: Goal) -> Quality:
    """A design judged."""
    seen = design.seen
    spent = jnp.where(goal.budget > 0, goal.budget / (6.0 * seen.active), goal.tokens)
    seen = eqx.tree_at(lambda a: a.tokens, seen, spent)
    match = goal.law.match(seen)
    moved = jnp.clip(match.q * jnp.exp(goal.correction), 1.0, seen.critical_q)
    routed = design.routed > 0.0
    size = jnp.where(routed, moved, 1.0) * seen.active
    physical = ~routed | (match.status == jnp.int32(Status.PHYSICAL))
    return Quality(
        dense_size=size,
        needed=jnp.where(goal.budget > 0, _size_of_loss(goal.loss, spent) * goal.size, goal.size),
        tokens=spent,
        training_flops=6.0 * seen.active * spent,
        total=seen.total,
        active=seen.active,
        attention=design.attention,
        physical=jnp.where(physical, 1.0, 0.0),
    )


def _attention(model: Model) -> Scalar:
    parts = (
        layers.distinct * attention_weights(layers.kind, model.hidden)
        for layers in model.decoder.attention
    )
    return sum(parts, jnp.zeros(()))


def _size_of_loss(loss: Scalar, tokens: Scalar) -> Scalar:
    """The dense model that reaches a loss on so many tokens; `NEVER` where none does."""
    left = loss - BESIROGLU.floor - BESIROGLU.b / tokens**BESIROGLU.beta
    possible = left > 0.0
    size = (BESIROGLU.a / jnp.where(possible, left, 1.0)) ** (1.0 / BESIROGLU.alpha)
    return jnp.where(possible, jnp.minimum(size, NEVER), NEVER)


def correction_of(law: QualityLaw, raw: bool = False) -> float:
    """What observed matches add to log q of a law; nothing for the bare law."""
    return 0.0 if raw else float(calibrate(law).correction)


# ---- goals of users ------------------------------------------------------------------------------


def as_good_as(model: Model, law: QualityLaw, tokens: float | None, raw: bool = False) -> Goal:
    """As good as a model.

    Raises:
        InputError: if the law needs training tokens that are not known, or has no physical answer.
    """
    if law.uses_tokens and tokens is None:
        raise InputError(
            f"law '{law.name}' needs the training tokens of the model: give tokens, such as 14.8e12"
        )
    known = 1e12 if tokens is None else tokens
    goal = Goal(law, correction_of(law, raw), 1.0, known)
    found = quality_of(model, goal)
    if not float(found.physical):
        raise InputError(
            f"law '{law.name}' has no dense model of the quality of this one; choose another law"
        )
    return goal.scaled(np.float64(found.dense_size))


def of_loss(loss: float, law: QualityLaw, tokens: float | None = None, raw: bool = False) -> Goal:
    """A loss at training tokens; at those of the least compute where none are stated.

    Raises:
        InputError: if no dense model reaches it.
    """
    floor = float(BESIROGLU.floor)
    if not floor < loss < math.inf:
        raise InputError(
            f"loss = {exactly(loss)}: give one above {floor:.4g} nat, below which no dense "
            "model comes"
        )
    spent = _tokens_of_loss(loss) if tokens is None else tokens
    size = float(_size_of_loss(np.float64(loss), np.float64(spent)))
    if size >= NEVER:
        raise InputError(
            f"loss = {exactly(loss)}: no dense model reaches it on {spent:.4g} tokens; give "
            "more tokens"
        )
    return Goal(law, correction_of(law, raw), size, spent)


def of_budget(flops: float, law: QualityLaw, raw: bool = False) -> Goal:
    """The quality of the best dense model that a training budget buys.

    Raises:
        InputError: if it is no positive number.
    """
    if not 0 < flops < math.inf:
        raise InputError(
            f"budget_flops = {exactly(flops)}: give the training compute, such as 1e25"
        )
    size, tokens = BESIROGLU.optimal_parameters(flops), BESIROGLU.optimal_tokens(flops)
    loss = float(BESIROGLU.loss(size, tokens))
    return Goal(law, correction_of(law, raw), 1.0, float(tokens), flops, loss)


def _tokens_of_loss(loss: float) -> float:
    """Tokens of the least compute 6 N D that reaches a loss, by bisection in its log."""
    low, high = 15.0, 32.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        compute = 10.0**middle
        reached = BESIROGLU.loss(
            BESIROGLU.optimal_parameters(compute), BESIROGLU.optimal_tokens(compute)
        )
        low, high = (middle, high) if float(reached) > loss else (low, middle)
    return min(float(BESIROGLU.optimal_tokens(10.0**high)), _MOST_TOKENS)


def quality_of(model: Model, goal: Goal) -> Quality:
    """A concrete model judged, whatever its layers."""
    return _judged(_counted(with_routed(model)), goal)


_counted, _judged = compiled(counted), compiled(quality)


def with_routed(model: Model) -> Model:
    """The model with an empty group of one expert where it has none routed."""
    if moe_group(model) is not None:
        return model
    empty = Layers(0.0, MoeFfn(1.0, 1.0, 128.0))
    return eqx.tree_at(lambda m: m.decoder.ffn, model, (*model.decoder.ffn, empty))


@dataclass(frozen=True)
class Wanted:
    """A goal as it was asked for, to be made anew for every law."""

    model: Model | None = None
    """The reference whose quality is wanted."""
    tokens: float | None = None
    """Training tokens where they are known."""
    loss: float | None = None
    budget: float | None = None
    raw: bool = False
    """Whether laws are taken bare."""

    def by(self, law: QualityLaw) -> Goal:
        """The goal by a law.

        Raises:
            InputError: if the law cannot say.
        """
        if self.loss is not None:
            return of_loss(self.loss, law, self.tokens, self.raw)
        if self.budget is not None:
            return of_budget(self.budget, law, self.raw)
        assert self.model is not None
        return as_good_as(self.model, law, self.tokens, self.raw)
