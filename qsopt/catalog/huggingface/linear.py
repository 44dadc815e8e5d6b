"""Attention with a state of fixed size, read from a config. States are kept in fp32, convolution
tails in bf16.

Arithmetic on one number of a state, for one token: decay 1 FLOP, read with the query 2, rank-one
update 2; the delta rule first reads with the key (2), and Mamba first discretises (2).
Convolutions, gates and norms are ignored.
"""

from typing import NamedTuple

from qsopt.catalog.huggingface.layers import with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import LinearAttention

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


def delta_net_apart(reader: Reader, hidden: int) -> LinearAttention:
    """The same as in OLMo Hybrid; only names of weights differ."""
    reader.skip(
        "linear_a_log_min",
        "linear_a_log_max",
        "linear_dt_min",
        "linear_dt_max",
        "linear_dt_init_floor",
        "linear_allow_neg_eigval",
        "linear_use_gate",
    )
    return delta_net(reader, hidden)


def kimi_delta(
    heads: int, dim: int, kernel: int, hidden: int, *, low_rank: bool, gate_rank: int = 0
) -> LinearAttention:
    """Kimi Delta Attention: query, key, value, output gate and a decay for each channel.

    Gate and decay are projected through `dim` columns (`low_rank`), or directly; `gate_rank`, if
    given, tells the output gate apart (Kimi-K3).
    """
    width, state = heads * dim, heads * dim * dim
    rank, gate = (dim if low_rank else 0), (gate_rank or (dim if low_rank else 0))
    through = [each for each in (rank, gate) if each and each != width]
    direct = 2 - len(through)
    return LinearAttention(
        heads=heads,
        input_width=3 * width + heads + sum(through) + direct * width,
        output_width=width,
        state_bytes=state * _STATE_BYTES + 3 * width * (kernel - 1) * _TAIL_BYTES,
        state_flops=_DELTA_FLOPS * state,
        inner=sum(each * width for each in through),
        # Layer norm, convolution, decay and its bias, and the norm of the output.
        small=hidden + 3 * width * kernel + heads + width + dim,
    )


class Mamba2(NamedTuple):
    """Sizes of a Mamba-2 layer."""

    heads: int
    dim: int
    state: int
    groups: int
    kernel: int
    conv_bias: bool
    proj_bias: bool
    norm: bool = True
    """Whether the output is normed."""


def mamba2(size: Mamba2, hidden: int, norms: int = 1) -> LinearAttention:
    """Mamba-2. It splits over heads; `norms` counts vectors as wide as hidden."""
    inner, state = size.heads * size.dim, size.heads * size.dim * size.state
    channels = inner + 2 * size.groups * size.state
    columns = inner + channels + size.heads
    return LinearAttention(
        heads=size.heads,
        # Gate, convolved channels, and one step for each head.
        input_width=columns,
        output_width=inner,
        state_bytes=state * _STATE_BYTES + channels * (size.kernel - 1) * _TAIL_BYTES,
        state_flops=_MAMBA_FLOPS * state,
        # Norms, convolution, decay, skip and bias of the step, and biases.
        small=norms * hidden
        + channels * (size.kernel + size.conv_bias)
        + 3 * size.heads
        + inner * size.norm
        + (columns + hidden) * size.proj_bias,
    )


def short_convolution(kernel: int, bias: bool, hidden: int) -> LinearAttention:
    """The gated short convolution of LFM2: two gates and the input, `kernel` tokens deep."""
    return LinearAttention(
        heads=hidden,
        input_width=3 * hidden,
        output_width=hidden,
        state_bytes=hidden * (kernel - 1) * _TAIL_BYTES,
        state_flops=2 * kernel * hidden,
        small=hidden + hidden * kernel + (5 * hidden if bias else 0),
    )


class Mamba1(NamedTuple):
    """Sizes of a Mamba-1 layer."""

    channels: int
    state: int
    rank: int
    """Of the projection that makes the step."""
    kernel: int
    conv_bias: bool


def mamba1(size: Mamba1, hidden: int) -> LinearAttention:
    """Mamba-1. It splits over channels."""
    channels, state = size.channels, size.state
    return LinearAttention(
        heads=channels,
        input_width=2 * channels,
        output_width=channels,
        state_bytes=channels * (state * _STATE_BYTES + (size.kernel - 1) * _TAIL_BYTES),
        state_flops=_MAMBA_FLOPS * channels * state,
        inner=channels * (size.rank + 2 * state) + size.rank * channels,
        # Norm, convolution, bias of the step, decay and skip.
        small=hidden + channels * (size.kernel + size.conv_bias) + channels * (2 + state),
    )


def mamba1_alone(reader: Reader, hidden: int) -> LinearAttention:
    """Mamba-1 as in Mamba and Falcon-Mamba, under the names of these."""
    channels = reader.count("intermediate_size", reader.count("expand", 2) * hidden)
    reader.agree("expand", channels / hidden, "intermediate_size / hidden_size")
    reader.expect("use_bias", False)
    size = Mamba1(
        channels,
        reader.count("state_size"),
        _step_rank(reader, "time_step_rank", hidden),
        reader.count("conv_kernel"),
        reader.flag("use_conv_bias", True),
    )
    return mamba1(size, hidden)


def mamba1_beside(reader: Reader, hidden: int) -> LinearAttention:
    """Mamba-1 beside attention, under the names of Jamba and Zamba."""
    reader.expect("mamba_proj_bias", False)
    size = Mamba1(
        reader.count("mamba_expand", 2) * hidden,
        reader.count("mamba_d_state", 16),
        _step_rank(reader, "mamba_dt_rank", hidden),
        reader.count("mamba_d_conv", 4),
        reader.flag("mamba_conv_bias", True),
    )
    return mamba1(size, hidden)


def mamba1_normed(reader: Reader, hidden: int) -> LinearAttention:
    """The same as in Jamba, which norms the step size and both state projections."""
    layer = mamba1_beside(reader, hidden)
    rank = _step_rank(reader, "mamba_dt_rank", hidden)
    return with_small(layer, rank + 2 * reader.count("mamba_d_state", 16))


def _step_rank(reader: Reader, key: str, hidden: int) -> int:
    """The rank of the step, by default one of 16 columns of hidden."""
    default = -(-hidden // 16)
    return default if reader.holds(key, "auto") else reader.count(key, default)


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
