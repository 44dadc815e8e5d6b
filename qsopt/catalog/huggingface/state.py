"""Families that alternate Mamba-2 with attention, or have nothing else: Mamba, Codestral Mamba,
Bamba, Falcon-H1, Granite 4, Nemotron-H and 3.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.attention import FULL, LINEAR
from qsopt.catalog.huggingface.dense import LLAMA, PLAIN
from qsopt.catalog.huggingface.experts import Experts, moe_layer
from qsopt.catalog.huggingface.family import (
    dense_ffn,
    family_sizes,
    finished,
    softmax,
)
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.layers import (
    Sizes,
    block_model,
    indices,
    layer_types,
    one_per_layer,
    sizes,
)
from qsopt.catalog.huggingface.linear import Mamba2, mamba1_alone, mamba2
from qsopt.catalog.huggingface.modules import Block
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, Ffn, LinearAttention
from qsopt.spec.model import Model

_SCAN = (
    "time_step_limit",
    "time_step_min",
    "time_step_max",
    "time_step_floor",
    "time_step_scale",
    "time_step_init_scheme",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "chunk_size",
    "mamba_chunk_size",
    "num_logits_to_keep",
    "mixer_rms_eps",
    "mamba_hidden_act",
    "layer_norm_epsilon",
)
"""How a state is stepped and initialised: no effect on sizes."""


def mamba(reader: Reader) -> Model:
    """Mamba-1 in every layer, and nothing else."""
    reader.skip(*_SCAN)
    size = sizes(reader)
    return block_model(
        reader, size, [(mamba1_alone(reader, size.hidden),)] * size.layers, tied=True
    )


def mamba2_only(reader: Reader) -> Model:
    """Mamba-2 in every layer, and nothing else."""
    reader.skip("time_step_rank", *_SCAN)
    size = sizes(reader)
    heads, dim = reader.count("num_heads"), reader.count("head_dim")
    reader.agree("intermediate_size", heads * dim, "num_heads * head_dim")
    reader.agree("expand", heads * dim / size.hidden, "num_heads * head_dim / hidden_size")
    layer = Mamba2(
        heads,
        dim,
        reader.count("state_size"),
        reader.count("n_groups"),
        reader.count("conv_kernel"),
        reader.flag("use_conv_bias", True),
        reader.flag("use_bias", False),
    )
    return block_model(reader, size, [(mamba2(layer, size.hidden),)] * size.layers)


def mixer(reader: Reader, hidden: int, norms: int = 1, norm: bool = True) -> LinearAttention:
    """Mamba-2 beside attention, under the names of Bamba, Falcon-H1 and Granite 4."""
    reader.skip(*_SCAN)
    heads, dim = reader.count("mamba_n_heads"), reader.count("mamba_d_head")
    wide = reader.either("mamba_d_ssm", "mamba_expand")
    if wide == "mamba_d_ssm":
        reader.agree(wide, heads * dim, "mamba_n_heads * mamba_d_head")
        reader.skip("mamba_expand")
    else:
        reader.agree(wide, heads * dim / hidden, "mamba_n_heads * mamba_d_head / hidden_size")
    layer = Mamba2(
        heads,
        dim,
        reader.count("mamba_d_state"),
        reader.count("mamba_n_groups"),
        reader.count("mamba_d_conv"),
        reader.flag("mamba_conv_bias", True),
        reader.flag("mamba_proj_bias", False),
        norm,
    )
    return mamba2(layer, hidden, norms)


def bamba(reader: Reader) -> Model:
    """Bamba: Mamba-2, attention in the layers of `attn_layer_indices`, gated feed-forward."""
    reader.skip("z_loss_coefficient", "attn_rotary_emb")
    size = family_sizes(reader, LLAMA)
    placed: list[int] = []
    if reader.has("attn_layer_indices"):
        placed = indices(reader, "attn_layer_indices", size.layers)
    kinds = {FULL: softmax(reader, size.hidden, LLAMA), LINEAR: mixer(reader, size.hidden)}
    ffn = dense_ffn(reader, size, LLAMA)
    names = [FULL if index in placed else LINEAR for index in range(size.layers)]
    return finished(reader, size, LLAMA, [(kinds[name], ffn) for name in names])


_H1_SCALES = words(
    "lm_head_multiplier embedding_multiplier mlp_multipliers key_multiplier mlp_expansion_factor "
    "attention_in_multiplier attention_out_multiplier ssm_multipliers ssm_in_multiplier "
    "ssm_out_multiplier mamba_norm_before_gate"
)


def falcon_h1(reader: Reader) -> Model:
    """Falcon-H1: Mamba-2 and attention side by side in every layer, after one norm."""
    reader.skip(*_H1_SCALES)
    reader.expect("projectors_bias", False)
    reader.expect("mamba_use_mlp", True)
    reader.expect("attn_layer_indices", None)
    size = family_sizes(reader, LLAMA)
    attention = softmax(reader, size.hidden, LLAMA)
    normed = reader.flag("mamba_rms_norm", False)
    layer = mixer(reader, size.hidden, norms=0, norm=normed)
    ffn = dense_ffn(reader, size, LLAMA)
    return finished(reader, size, LLAMA, [(attention, layer, ffn)] * size.layers)


GRANITE = replace(LLAMA, ffn_bias=False)
GRANITE_EXPERTS = Experts(
    count="num_local_experts", width="intermediate_size", shared_width="shared_intermediate_size"
)


def granite_hybrid(reader: Reader) -> Model:
    """Granite 4: Mamba-2 with some attention; experts beside a shared one, which is all there is
    where `num_local_experts` is 0.
    """
    reader.expect("normalization_function", "rmsnorm")
    reader.skip("position_embedding_type")
    size = family_sizes(reader, GRANITE)
    aliases = {"attention": FULL, "mamba": LINEAR}
    types = [aliases.get(name, name) for name in layer_types(reader, size.layers, [])]
    for name in types:
        if name not in (FULL, LINEAR):
            raise reader.error(f"field 'layer_types' holds '{name}'; attention and mamba are known")
    kinds: dict[str, Attention] = {FULL: softmax(reader, size.hidden, GRANITE)}
    if LINEAR in types:
        kinds[LINEAR] = mixer(reader, size.hidden)
    else:
        reader.skip(*_MIXER_NAMES, *_SCAN)
    ffn = _granite_ffn(reader, size)
    return finished(reader, size, GRANITE, [(kinds[name], ffn) for name in types])


_MIXER_NAMES = words(
    "mamba_n_heads mamba_d_head mamba_expand mamba_d_state mamba_n_groups mamba_d_conv "
    "mamba_conv_bias mamba_proj_bias"
)


def _granite_ffn(reader: Reader, size: Sizes) -> Ffn:
    if reader.whole("num_local_experts", 0):
        return moe_layer(reader, size, GRANITE, GRANITE_EXPERTS)
    reader.skip("intermediate_size", "num_experts_per_tok")
    return dense_ffn(reader, size, GRANITE, reader.count("shared_intermediate_size"))


NEMOTRON = replace(PLAIN, gated=False, head_dim="head_dim|attention_head_dim", dim_default=False)
"""Nemotron-H: ungated squared ReLU, one block and one norm in a layer."""
NEMOTRON_EXPERTS = Experts(count="n_routed_experts", router_bias=True)

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_ALIASES = {"linear_attention": "mamba", "full_attention": "attention"}


def nemotron_h(reader: Reader) -> Model:
    """Nemotron-H and Nemotron 3: a layer is Mamba-2, attention, a dense feed-forward or experts, as
    `hybrid_override_pattern` or `layers_block_type` says.

    Where experts work in a narrower space (`moe_latent_size`), they are counted as narrower in the
    same proportion, and the projections into it and back as one more shared expert.
    """
    names = _block_names(reader)
    reader.skip("mtp_hybrid_override_pattern", "mtp_layers_block_type", "moe_shared_expert_overlap")
    reader.skip("time_step_rank", *_SCAN)
    reader.expect("sliding_window", None)
    for key in ("use_bias", "mamba_proj_bias", "mlp_bias", "attention_bias"):
        reader.expect(key, False)
    layers = reader.count("num_hidden_layers", len(names))
    one_per_layer(reader, "layers_block_type", names, layers)
    size = Sizes(reader.count("hidden_size"), layers, reader.count("vocab_size"))
    kinds = {name: block(reader, size, name) for name in dict.fromkeys(names)}
    _skip_unused(reader, kinds)
    return finished(reader, size, NEMOTRON, [kinds[name] for name in names])


def _block_names(reader: Reader) -> list[str]:
    if reader.has("layers_block_type"):
        names = [_ALIASES.get(name, name) for name in reader.words("layers_block_type")]
    else:
        word = reader.text("hybrid_override_pattern")
        names = [_LETTERS.get(letter, letter) for letter in word]
    for name in names:
        if name not in _LETTERS.values():
            raise reader.error(
                f"the pattern of layers holds '{name}'; known are {', '.join(_LETTERS.values())}"
            )
    return names


def block(reader: Reader, size: Sizes, name: str) -> Block:
    """One layer of Nemotron-H."""
    if name == "mamba":
        return (_nemotron_mixer(reader, size.hidden),)
    if name == "attention":
        return (softmax(reader, size.hidden, NEMOTRON),)
    if name == "mlp":
        return (dense_ffn(reader, size, NEMOTRON),)
    return (_nemotron_experts(reader, size),)


def _nemotron_mixer(reader: Reader, hidden: int) -> LinearAttention:
    """The number of heads, not `expand`, sets the inner width."""
    reader.skip("expand")
    reader.expect("mamba_ssm_cache_dtype", "float32")
    layer = Mamba2(
        reader.count("mamba_num_heads"),
        reader.count("mamba_head_dim"),
        reader.count("ssm_state_size"),
        reader.count("n_groups"),
        reader.count("conv_kernel"),
        reader.flag("use_conv_bias", True),
        False,
    )
    return mamba2(layer, hidden)


def _nemotron_experts(reader: Reader, size: Sizes) -> Ffn:
    moe = moe_layer(reader, size, NEMOTRON, NEMOTRON_EXPERTS)
    shared = reader.whole("n_shared_experts", 0) * reader.whole(
        "moe_shared_expert_intermediate_size", 0
    )
    latent = reader.count("moe_latent_size") if reader.has("moe_latent_size") else 0
    if latent:
        moe = dataclasses.replace(moe, width=moe.width * latent / size.hidden)
    both = shared + latent
    return dataclasses.replace(moe, shared_experts=1 if both else 0, shared_width=both)


_OF_KIND = {
    "mamba": "mamba_num_heads mamba_head_dim ssm_state_size n_groups conv_kernel use_conv_bias "
    "expand mamba_ssm_cache_dtype",
    "attention": "num_attention_heads num_key_value_heads head_dim attention_head_dim",
    "mlp": "intermediate_size",
    "moe": "n_routed_experts num_experts_per_tok moe_intermediate_size n_shared_experts "
    "moe_shared_expert_intermediate_size moe_latent_size",
}


def _skip_unused(reader: Reader, kinds: dict[str, Block]) -> None:
    """Fields of kinds that no layer has."""
    for name, fields in _OF_KIND.items():
        if name not in kinds:
            reader.skip(*fields.split())


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "bamba": bamba,
    "falcon_h1": falcon_h1,
    "falcon_mamba": mamba,
    "granitemoehybrid": granite_hybrid,
    "mamba": mamba,
    "mamba2": mamba2_only,
    "nemotron_h": nemotron_h,
}
"""The reader of each `model_type`."""
