"""What is served: a transformer as layer counts and sizes. Data only; parameters and bytes are
counted in `qsopt.physics`.

A decode step costs the sum over layers, so a model is two lists, how many attention layers of each
kind and how many feed-forward layers of each kind it has; which of them are neighbours changes
neither time nor memory.
"""

from qsopt.arrays import Scalar, is_concrete, number
from qsopt.errors import InputError, exactly
from qsopt.record import Record
from qsopt.spec.changes import changed
from qsopt.spec.formats import Format
from qsopt.spec.layers import Layers, MoeFfn, Stack


class Precision(Record):
    """The format of each part of the weights and of the KV cache."""

    attention: Format
    """Attention projections."""
    ffn: Format
    """Dense feed-forward layers and shared experts."""
    experts: Format
    """Routed experts."""
    tables: Format
    """Embedding table, head and router, which quantised checkpoints keep wide."""
    kv_cache: Format
    """Keys, values and latents in the cache."""
    activation_bytes: Scalar = number(2.0)
    """Activations between operators [byte]."""


class Model(Record):
    """A transformer. Sizes are numbers of any kind (a search moves them as reals)."""

    decoder: Stack
    """The layers that a decode step runs."""
    precision: Precision
    """Number formats."""
    hidden: Scalar = number()
    """Hidden size."""
    vocabulary: Scalar = number()
    """Rows of the embedding table."""
    layers: Scalar = number()
    """Decoder layers: what pipeline stages divide."""
    tied: Scalar = number(0.0)
    """1 if input embedding and head are one table, else 0."""
    small: Scalar = number(0.0)
    """Final norm, position tables and other odds outside the layers [parameters]."""
    encoder: Stack | None = None
    """Layers that stay resident but do not run in a decode step (Switch-C)."""
    resident: Scalar = number(0.0)
    """Parameters in memory that a decode step does not read: vision and audio towers, tables of
    which it looks up single rows [parameters].
    """
    draft_layers: Scalar = number(0.0)
    """Layers of its own for multi-token prediction: in none of the counts, as plain decoding does
    not load them; with speculative decoding they make drafts.
    """

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        for name in ("hidden", "vocabulary", "layers"):
            if not float(getattr(self, name)) > 0:
                raise InputError(
                    f"{name} = {exactly(float(getattr(self, name)))}: a model needs a positive "
                    f"{name}"
                )

    def with_(self, **sizes: float) -> "Model":
        """The model with other sizes, such as `top_k` or `layers` (see `spec.changes.changed`)."""
        return changed(self, sizes)


def stacks(model: Model) -> tuple[Stack, ...]:
    """Decoder, and encoder where there is one."""
    return (model.decoder,) if model.encoder is None else (model.decoder, model.encoder)


def moe_group(model: Model) -> Layers[MoeFfn] | None:
    """The first group of routed layers of the decoder, or None for a dense model."""
    return next((group for group in model.decoder.ffn if isinstance(group.kind, MoeFfn)), None)  # pyright: ignore[reportReturnType]


def moe_layers(model: Model) -> MoeFfn | None:
    """The first kind of routed layer of the decoder, or None for a dense model."""
    group = moe_group(model)
    return None if group is None else group.kind


def routed_layers(model: Model, purpose: str) -> MoeFfn:
    """The first kind of routed layer of the decoder.

    Args:
        model: the model.
        purpose: what needs routed experts, for the error.

    Raises:
        InputError: if the model is dense.
    """
    found = moe_layers(model)
    if found is None:
        raise InputError(f"the model is dense: {purpose}")
    return found
