"""Both sides of a comparison in their best deployments, as things are and in every world in which a
cause is switched off, exactly.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.comparison.dense import NAMED, RELEASED_GQA8, SAME_BODY, MatchKind, dense_match
from qsopt.comparison.penalties import DENSE_WORLDS, WORLDS
from qsopt.comparison.twin import aligned
from qsopt.comparison.worlds import in_all_worlds
from qsopt.deployments.batches import CHUNK, length, repeat, same_length, stack, take
from qsopt.deployments.best import Best
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import Searched, searched, things_first
from qsopt.deployments.request import best_batch
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service


class Optima(eqx.Module):
    """One side: its structure, its layouts, and its best deployments."""

    model: Model
    """Aligned to the MoE's structure."""
    layouts: Deployment
    """Legal ones, filled up to a length that is shared."""
    best: Best
    """As things are."""
    throughputs: Float[Array, " layouts"]
    """In every layout, as things are, 0 where infeasible; of layouts that are not close to the
    best what they do not exceed [tokens/s].
    """
    worlds: Float[Array, " worlds"]
    """Throughput in every world of the side (see `penalties`), 0 where infeasible [tokens/s]."""


class Duel(eqx.Module):
    """Both sides."""

    moe: Optima
    dense: Optima
    kind: MatchKind = eqx.field(static=True)

    @property
    def throughputs(self) -> tuple[Scalar, Scalar]:
        """Of the MoE and of its match as things are, 0 where infeasible [tokens/s]."""
        return self.moe.best.throughput, self.dense.best.throughput


def moe_optima(model: Model, service: Service) -> Optima:
    """The MoE in all of its worlds."""
    layouts = layouts_of(model, service)
    side = aligned(model, model)
    if length(layouts) > CHUNK and is_concrete(service):
        found, worlds = in_all_worlds(side, service, layouts)
        best = take(found.best, 0)
        return Optima(side, layouts, best, found.throughputs[0], jnp.asarray(worlds))
    count = len(WORLDS.reuse)
    near = things_first(count)
    found = searched(repeat(side, count), service, layouts, WORLDS, near=near)
    return _optima(side, layouts, found)


def _optima(side: Model, layouts: Deployment, found: Searched) -> Optima:
    """Of a side whose worlds were searched, things as they are first."""
    worlds = found.best.throughput
    return Optima(side, layouts, take(found.best, 0), found.throughputs[0], worlds)


def dense_optima(
    model: Model, service: Service, q: Scalar, kind: MatchKind, match: Model
) -> Optima:
    """A dense match in all of its worlds: with q as it is and q = 1, in its own shape and in the
    MoE's body, with messages as they are and free.

    Args:
        model: the MoE.
        service: what both are deployed for.
        q: size factor.
        kind: of the match.
        match: itself. A named one has no size of its own at q = 1: there stands the released shape
            with eight KV heads.
    """
    plain = RELEASED_GQA8 if kind == NAMED else kind
    small = scalar(1.0)
    own = _in_worlds(model, service, match, dense_match(model, small, plain))
    if kind == SAME_BODY:
        body = own
    else:
        twins = (dense_match(model, size, SAME_BODY) for size in (q, small))
        body = _in_worlds(model, service, *twins)
    # switches(DENSE_CAUSES): arithmetic is slowest, then attention, then communication
    worlds = [
        side.worlds[2 * size + free] for size in (0, 1) for side in (own, body) for free in (0, 1)
    ]
    return Optima(own.model, own.layouts, own.best, own.throughputs, jnp.stack(worlds))


def _in_worlds(model: Model, service: Service, match: Model, small: Model) -> Optima:
    """Two dense models of one structure, each with messages as they are and free; a structure of
    its own where the small one has another.
    """
    layouts = layouts_of(match, service)
    sides = [aligned(each, model) for each in (match, small)]
    if jax.tree.structure(sides[0]) != jax.tree.structure(sides[1]):
        first, second = (_worlds_of([side], service, layouts_of(side, service)) for side in sides)
        worlds = jnp.concatenate([first.worlds, second.worlds])
        return eqx.tree_at(lambda optima: optima.worlds, first, worlds)
    return _worlds_of(sides, service, layouts)


def _worlds_of(sides: list[Model], service: Service, layouts: Deployment) -> Optima:
    """Models of one structure, each with messages as they are and free."""
    models = stack([side for side in sides for _ in range(2)])
    worlds = take(DENSE_WORLDS, [0, 1] * len(sides))
    found = searched(models, service, layouts, worlds, near=things_first(length(models)))
    return _optima(sides[0], layouts, found)


def layouts_of(model: Model, service: Service) -> Deployment:
    """Legal layouts of a side, filled up to a shared length."""
    (layouts,) = same_length(legal_layouts(model, service.cluster, service.rules))
    return layouts


def best_of(model: Model, like: Model, service: Service) -> Best:
    """A side in its best deployment, as things are.

    Args:
        model: the side.
        like: whose structure it is given, so that both sides share a compilation.
        service: what it is served on and for.
    """
    return best_batch(aligned(model, like), service, layouts_of(model, service))


def throughput_of(model: Model, like: Model, service: Service) -> float:
    """A side's throughput in its best deployment, 0 where none is feasible [tokens/s]."""
    return float(best_of(model, like, service).throughput)
