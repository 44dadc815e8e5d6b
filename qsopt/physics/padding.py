"""Weights of routed experts as kernels want them: sizes rounded up, rows padded.

Experts in a 4-bit format are stored with the hidden size and each device's columns rounded up to a
multiple of their kernel's tile.

On AMD accelerators vLLM makes rows of bf16 experts that are a multiple of 512 bytes longer by 256.
Each layer's first matrices (gate and up) are copied to longer rows, then its last (down), which the
allocator puts where the first ones were; what is left of that place can be used by nobody, as all
other weights stand already. So padding both costs a second place for the first matrices: a third
more for gated experts. Source: `UnquantizedFusedMoEMethod` of vLLM, pull request 14454.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, entry
from qsopt.physics import smooth
from qsopt.spec.formats import FORMATS
from qsopt.spec.layers import MoeFfn
from qsopt.spec.model import Precision
from qsopt.spec.server_memory import ALIASED_BYTES, ServerMemory

_BF16 = FORMATS.index("bf16")
_BF16_BYTES = 2.0


def padding(
    kind: MoeFfn,
    hidden: Scalar,
    shards: Scalar,
    precision: Precision,
    server: ServerMemory,
    softness: Softness = EXACT,
) -> Scalar:
    """Bytes of a device's share of an expert over those of its weights; 1 without padding.

    Args:
        kind: the routed layer.
        hidden: hidden size of the model.
        shards: devices that share an expert, u.
        precision: formats of the weights.
        server: what pads.
        softness: of the relaxed model, which pads nothing up to multiples.
    """
    form, columns = precision.experts.index, kind.width / shards
    rounded = _rounded(hidden, entry(server.hidden_multiple, form), softness) * _rounded(
        columns, entry(server.width_multiple, form), softness
    )
    longer = _longer_rows(kind.matrices, hidden, columns, server.pad_bytes / _BF16_BYTES)
    return rounded * xp.where(form == _BF16, longer, 1.0)


def _rounded(size: Scalar, multiple: Scalar, softness: Softness) -> Scalar:
    """A size rounded up, over the size."""
    some = xp.where(multiple > 0.0, multiple, size)
    return smooth.ceil(size / some, softness) * some / size


def _longer_rows(matrices: Scalar, hidden: Scalar, columns: Scalar, pad: Scalar) -> Scalar:
    """Memory of gate, up and down with padded rows, over that without."""
    down = 1.0 / matrices
    first, last = pad / hidden * _aliased(hidden), pad / columns * _aliased(columns)
    reused = (first > 0.0) & (last > 0.0) & (down * (1.0 + last) <= 1.0 - down)
    grown = (1.0 - down) * first
    return 1.0 + grown + xp.where(reused, 1.0 - 2.0 * down, down * last)


def _aliased(elements: Scalar) -> Scalar:
    """1 where rows of so many elements fall on the same channels, else 0."""
    rows = elements * _BF16_BYTES / ALIASED_BYTES
    return xp.where(xp.abs(rows - xp.round(rows)) < _ROUNDING, 1.0, 0.0)


_ROUNDING = 1e-4
"""Of a whole number of rows, in float32 too."""
