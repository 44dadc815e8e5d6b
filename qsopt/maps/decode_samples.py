"""Both sides of a comparison of decode alone at many values of one input, each in its own exact
optimum.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, scalar
from qsopt.comparison.dense import MatchKind, dense_match
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import in_numpy, length, repeat, same_length, take
from qsopt.deployments.capped import ServedModel, best_throughputs
from qsopt.deployments.layouts import layouts_of_any, legal_layouts
from qsopt.maps.pair import MatchedPair, Measure, Samples
from qsopt.maps.points import SERVICE_NUMBERS
from qsopt.programs import compiled
from qsopt.spec.model import Model


def decode_measure(pair: MatchedPair, over: str, high: float) -> Measure:
    """Both optima of decode alone at values of an input.

    Args:
        pair: both sides.
        over: the input.
        high: its largest value.
    """
    cluster = pair.service.cluster
    if over == "devices":  # smaller clusters have no replica of the larger layouts
        cluster = eqx.tree_at(lambda c: c.devices, cluster, scalar(np.floor(high)))
    rules = pair.service.rules
    moe = legal_layouts(pair.model, cluster, rules)
    fixed = None if over == "q" else layouts_of_any([pair.dense], cluster, rules)

    def samples(values: list[float]) -> Samples:
        sides = _cases(pair, over, np.array(values))
        dense = layouts_of_any(_singles(sides[1].model), cluster, rules) if fixed is None else fixed
        throughputs = (
            best_throughputs(cases, listed).tolist()
            for cases, listed in zip(sides, same_length(moe, dense), strict=True)
        )
        return dict(zip(values, zip(*throughputs, strict=True), strict=True))

    return samples


def _singles(models: Model) -> list[Model]:
    return [take(models, place) for place in range(length(models))]


def _cases(
    pair: MatchedPair, over: str, values: Float[np.ndarray, " n"]
) -> tuple[ServedModel, ServedModel]:
    """Batches of cases of the MoE and of its match, the input moved."""
    moe = repeat(ServedModel(aligned(pair.model, pair.model), pair.service), len(values))
    if over == "q":
        matches = in_numpy(_matches(pair.model, values, pair.kind))  # pyright: ignore[reportArgumentType]
        return moe, ServedModel(matches, moe.service, moe.cap)
    dense = repeat(ServedModel(aligned(pair.dense, pair.model), pair.service), len(values))
    number = _number(over)
    return eqx.tree_at(number, moe, values), eqx.tree_at(number, dense, values)


def _number(over: str) -> Callable[[ServedModel], Scalar]:
    """The number of a case that an input is."""
    if over == "batch":
        return lambda case: case.cap
    return lambda case: SERVICE_NUMBERS[over](case.service)


@partial(compiled, static=("kind",))
def _matches(model: Model, qs: Float[Array, " n"], kind: MatchKind) -> Model:
    """Exact matches of several q, in the structure of the MoE."""
    return jax.vmap(lambda q: aligned(dense_match(model, q, kind), model))(jnp.asarray(qs))
