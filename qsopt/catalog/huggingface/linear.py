"""Attention with a state of fixed size, read from a config. States are kept in fp32, convolution
tails in bf16.

Arithmetic on one number of a state, for one token: decay 1 FLOP, read with the query 2, rank-one
update 2; the delta rule first reads with the key (2), and Mamba first discretises (2).
Convolutions, gates and norms are ignored.
"""

from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import LinearAttention

_DELTA_FLOPS, _LIGHTNING_FLOPS, _MAMBA_FLOPS = 7, 5, 7
_STATE_BYTES, _TAIL_BYTES = 4, 2


def delta_net(reader: Reader, hidden: int) -> LinearAttention:
    """Gated DeltaNet of Qwen3-Next. It splits over key heads, since the value heads of one share
    it.
    """
    key_heads, value_heads = (
        reader.count("linear_num_key_heads"),
        reader.count("linear_num_value_heads"),
    )
    if value_heads % key_heads:
        raise reader.error(
            f"linear_num_value_heads = {value_heads} is no multiple of linear_num_key_heads = "
            f"{key_heads}"
        )
    key_dim, value_dim = reader.count("linear_key_head_dim"), reader.count("linear_value_head_dim")
    kernel = reader.count("linear_conv_kernel_dim")
    reader.expect("mamba_ssm_dtype", "float32")
    keys, values, state = (
        key_heads * key_dim,
        value_heads * value_dim,
        value_heads * key_dim * value_dim,
    )
    channels = 2 * keys + values
    return LinearAttention(
        heads=key_heads,
        # Query, key, value and output gate, and two scalars for each value head: write strength and
        # decay.
        input_width=channels + values + 2 * value_heads,
        output_width=values,
        state_bytes=state * _STATE_BYTES + channels * (kernel - 1) * _TAIL_BYTES,
        state_flops=_DELTA_FLOPS * state,
        # Layer norm, convolution, decay and its bias, and the norm of the output.
        small=hidden + channels * kernel + 2 * value_heads + value_dim,
    )


def lightning(heads: int, dim: int, hidden: int) -> LinearAttention:
    """Lightning attention of MiniMax-M1: query, key, value and output gate, as many heads for
    each.
    """
    width, state = heads * dim, heads * dim * dim
    return LinearAttention(
        heads=heads,
        input_width=4 * width,
        output_width=width,
        state_bytes=state * _STATE_BYTES,
        state_flops=_LIGHTNING_FLOPS * state,
        small=hidden + width,
    )


def mamba(reader: Reader, hidden: int) -> LinearAttention:
    """Mamba-1 as in Jamba, which norms the step size and both state projections. It splits over
    channels.
    """
    reader.expect("mamba_proj_bias", False)
    channels = reader.count("mamba_expand") * hidden
    state, kernel = reader.count("mamba_d_state"), reader.count("mamba_d_conv")
    rank = reader.count("mamba_dt_rank")
    convolution = channels * (kernel + reader.flag("mamba_conv_bias"))
    return LinearAttention(
        heads=channels,
        input_width=2 * channels,
        output_width=channels,
        state_bytes=channels * (state * _STATE_BYTES + (kernel - 1) * _TAIL_BYTES),
        state_flops=_MAMBA_FLOPS * channels * state,
        inner=channels * (rank + 2 * state) + rank * channels,
        # Layer norm, convolution, bias of the step, decay, skip, and three norms.
        small=hidden + convolution + channels * (2 + state) + rank + 2 * state,
    )
