"""From values of the architecture variables to a model, and to the sizes of it and of the dense
model of its quality.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.physics.training import training_flops
from qsopt.quality import QualityLaw, Status
from qsopt.quality.of_model import architecture
from qsopt.search.budgets import TRAINED
from qsopt.search.variables import Rows, Variable, rows_of
from qsopt.spec.changes import ROUTED
from qsopt.spec.layers import Gqa, Layers, Stack, map_ffn, with_count, with_routed
from qsopt.spec.model import Model, moe_layers

Values = Mapping[str, Scalar]
"""Values of variables by name."""


def reference_value(model: Model, name: str) -> float:
    """What a variable is in the reference model.

    Raises:
        InputError: if the model has no such thing.
    """
    moe = moe_layers(model)
    if name in ROUTED and moe is not None:
        return float(getattr(moe, ROUTED[name]))
    if name == "kv_heads":
        for layers in model.decoder.attention:
            if isinstance(layers.kind, Gqa):
                return float(layers.kind.kv_heads)
    if name in ("hidden", "layers"):
        return float(getattr(model, name))
    raise InputError(f"the reference model has no {name}: leave it out of what varies")


def reference_row(model: Model, variables: Sequence[Variable]) -> Rows:
    """The reference model as one row of the variables."""
    return rows_of(
        variables,
        [{variable.name: reference_value(model, variable.name) for variable in variables}],
    )


def with_architecture(model: Model, values: Values) -> Model:
    """The reference model with some sizes replaced; all routed layers alike, and layers of all
    kinds in proportion.
    """
    routed = {field: values[name] for name, field in ROUTED.items() if name in values}
    if routed:
        model = map_ffn(model, lambda layers: with_routed(layers, routed))
    if "kv_heads" in values:
        attention = tuple(
            _with_kv_heads(layers, values["kv_heads"]) for layers in model.decoder.attention
        )
        model = eqx.tree_at(lambda m: m.decoder.attention, model, attention)
    if "layers" in values:
        factor = values["layers"] / model.layers
        model = eqx.tree_at(
            lambda m: (m.decoder, m.layers),
            model,
            (_deeper(model.decoder, factor), values["layers"]),
        )
    return eqx.tree_at(lambda m: m.hidden, model, values["hidden"]) if "hidden" in values else model


def _with_kv_heads(layers: Layers, kv_heads: Scalar) -> Layers:
    return (
        eqx.tree_at(lambda g: g.kind.kv_heads, layers, kv_heads)
        if isinstance(layers.kind, Gqa)
        else layers
    )


def _deeper(stack: Stack, factor: Scalar) -> Stack:
    def changed(groups: tuple[Layers, ...]) -> tuple[Layers, ...]:
        return tuple(with_count(group, group.count * factor) for group in groups)

    return Stack(changed(stack.attention), changed(stack.ffn))


class MatchedSizes(eqx.Module):
    """Sizes of a model, and of the dense model of its quality."""

    dense: Scalar
    """Size of the dense match [parameters]."""
    is_physical: Bool[Array, ""]
    """Whether the law has a match that means anything."""
    total: Scalar
    """All parameters of the model."""
    active: Scalar
    """Its parameters that a token uses."""
    match: Scalar
    """Size of the dense model that it is compared with: that of its quality by the calibrated law,
    or by the bare one [parameters].
    """
    training: Scalar
    """Operations of its training on those tokens [FLOP]."""


def matched_sizes(
    model: Model, law: QualityLaw, tokens: Scalar, correction: Scalar | None = None
) -> MatchedSizes:
    """Sizes of a model trained on so many tokens, and of its dense match by a law.

    Args:
        model: an MoE.
        law: how quality is compared.
        tokens: training tokens.
        correction: what the observed matches add to log q of the law; None for the bare law.
    """
    own = architecture(model, tokens)
    match = law.match(own)
    q = match.q
    if correction is not None:  # as in `belief`
        q = jnp.clip(q * jnp.exp(correction), 1.0, own.critical_q)
    return MatchedSizes(
        dense=match.dense_parameters,
        is_physical=match.status == jnp.int32(Status.PHYSICAL),
        total=own.total,
        active=own.active,
        match=q * own.active,
        training=training_flops(model, tokens, jnp.asarray(TRAINED)),
    )
