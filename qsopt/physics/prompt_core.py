"""Scores, softmax and weighted sums of prompts over keys and values, as one kernel does them for
one layer on one device.

Of p pairs of tokens in H heads with keys of d_k and values of d_v elements, 2 H (d_k + d_v) p FLOP;
half of a whole prompt's square, as attention is causal. Queries, keys and values are read from the
activations and the output is written to them; what an earlier chunk cached is read, and what is new
is cached, outside of this count. An exponential for each pair takes the same time for every head
size, and a row (a token of one head) is worked on by one processor: see
`OperatorEfficiency.half_columns` and `half_rows`.
"""

from qsopt.arrays import Scalar
from qsopt.physics.roofline import Cost


def prompt_core(
    heads: Scalar,
    kv_heads: Scalar,
    key_size: Scalar,
    value_size: Scalar,
    tokens: Scalar,
    pairs: Scalar,
    activation_bytes: Scalar,
) -> Cost:
    """Work of one layer.

    Args:
        heads: query heads on the device.
        kv_heads: heads of keys and values there.
        key_size: elements of a query and of a key of one head.
        value_size: elements of a value and of an output of one head.
        tokens: new tokens of all prompts.
        pairs: pairs of a new token and one that it sees, summed over all prompts.
        activation_bytes: of one element between operators [byte].
    """
    flops = 2.0 * heads * (key_size + value_size) * pairs
    moved = tokens * (heads + kv_heads) * (key_size + value_size) * activation_bytes
    return Cost(
        flops,
        moved,
        1.0,
        narrow_flops=flops / ((key_size + value_size) / 2.0),
        row_flops=flops / (tokens * heads),
    )
