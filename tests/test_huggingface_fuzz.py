"""A field that was changed is never silently passed over: the model changes, or the config is
refused, for every size of every family's own config; and whatever nobody knows is refused.

The exceptions are listed: sizes that a family carries and its class does not use.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_configs import RELEASED

from qsopt.catalog.folder import configs
from qsopt.catalog.huggingface import read_config
from qsopt.catalog.huggingface.harmless import is_harmless
from qsopt.errors import InputError

LATENT = {"num_key_value_heads", "head_dim", "rotary_dim"}
"""Latent attention has heads without a size of their own, and no KV heads."""

INDEXER = "index_n_heads index_head_dim index_block_size index_topk_blocks index_local_blocks"
"""Sizes of an indexer that no layer has."""

INERT = {
    "afmoe": "global_attn_every_n_layers",  # layer_types is there
    "bailing_hybrid": "layer_group_size short_conv_kernel_size",
    "bamba": "mamba_chunk_size",
    "codegen": "n_positions n_ctx",
    "cohere2_moe": "sliding_window_pattern prefix_dense_sliding_window_pattern",
    "deepseek_v4": "hc_sinkhorn_iters",
    "exaone4": "sliding_window_pattern",
    "exaone4_5": "sliding_window_pattern",
    "exaone_moe": "sliding_window_pattern",
    "falcon": "num_kv_heads",  # multi_query
    "falcon_h1": "mamba_chunk_size mamba_expand",  # mamba_d_ssm is there
    "gemma3": "_sliding_window_pattern mm_tokens_per_image",
    "gemma3_text": "_sliding_window_pattern",
    "gemma3n_text": "altup_active_idx",
    "gptj": "n_positions",
    "granitemoehybrid": "mamba_chunk_size",
    "internvl": "max_window_layers image_seq_length vision_feature_layer",
    "kimi_k25": "projection_hidden_size",
    "laguna": "num_attention_heads sliding_window",  # a list of layers, which all see all
    "lfm2": "conv_L_cache",  # all layers attend
    "lfm2_vl": "conv_L_cache",
    "llama4_text": "intermediate_size_mlp interleave_moe_layer_step no_rope_layer_interval",
    "llava": "image_seq_length vision_feature_layer",
    "llava_next": "image_seq_length vision_feature_layer",
    "mamba2": "time_step_rank chunk_size",
    "mellum": "intermediate_size sliding_window",
    "minimax_m3_vl": f"dense_intermediate_size merged_hidden_size {INDEXER}",
    "minimax_m3_vl_text": f"dense_intermediate_size {INDEXER}",
    "mistral3": "vision_feature_layer",
    "mistral4": "intermediate_size",
    "mpt": "LABEL_0 LABEL_1 alibi_bias_max",
    "nemotron_h": "expand chunk_size",
    "qwen2": "max_window_layers",  # use_sliding_window is false
    "qwen2_5_vl": "max_window_layers",
    "qwen2_moe": "max_window_layers intermediate_size sliding_window",
    "qwen2_vl": "max_window_layers",
    "qwen3": "max_window_layers",
    "qwen3_moe": "intermediate_size",
    "qwen3_next": "intermediate_size",
    "qwen3_vl_moe": "intermediate_size",
    "smollm3": "no_rope_layer_interval",
    "zamba": "n_mamba_heads",  # share out the same channels, states and steps
}
"""Sizes that change nothing in a family's own config: its class does not use them, or another field
decides what they would.
"""


def sizes(config: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of whole numbers that are no flags, in the config of the language model."""
    for key, value in config.items():
        if isinstance(value, dict) and key not in ("vision_config", "audio_config"):
            yield from sizes(value, (*path, key))
        elif isinstance(value, int) and not isinstance(value, bool) and not is_harmless(key):
            yield (*path, key)


def changed(config: dict, path: tuple[str, ...], change) -> dict:
    """A copy of the config with one value changed."""
    copy = json.loads(json.dumps(config))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = change(inner[path[-1]])
    return copy


def outcome(config: dict) -> object:
    """All numbers of the model, or the refusal."""
    import jax

    try:
        model = read_config(config)
    except InputError as error:
        return str(error)
    return [float(leaf) for leaf in jax.tree.leaves(model)] + [str(jax.tree.structure(model))]


def is_latent(config: dict) -> bool:
    return "kv_lora_rank" in config or "kv_lora_rank" in config.get("text_config", {})


@pytest.mark.parametrize("family", RELEASED)
def test_a_changed_size_is_noticed(family: str) -> None:
    config = RELEASED[family]["config"]
    before = outcome(config)
    assert isinstance(before, list)
    inert = set(INERT.get(family, "").split()) | (LATENT if is_latent(config) else set())
    for path in sizes(config):
        if path[-1] in inert:
            continue
        after = outcome(changed(config, path, lambda value: 2 * value + 1))
        assert after != before, f"{'.'.join(path)} was passed over"


@pytest.mark.parametrize("family", RELEASED)
def test_unknown_fields_are_refused(family: str) -> None:
    config = RELEASED[family]["config"]
    for value in (1, "one", [1], {"one": 1}, True):
        refusal = outcome({**config, "brand_new_field": value})
        assert isinstance(refusal, str) and "'brand_new_field'" in refusal, value
        assert "--ignore brand_new_field" in refusal
    assert outcome({**config, "brand_new_field": None}) == outcome(config)


@pytest.mark.parametrize("family", RELEASED)
@pytest.mark.parametrize("value", [0, -1, 2.5, "4", True, [3], {"a": 1}, 10**12])
def test_malformed_sizes_are_refused_by_name(family: str, value: object) -> None:
    """Hidden size and vocabulary under whatever name; never an error of Python."""
    config = RELEASED[family]["config"]
    for path in list(sizes(config))[:4]:
        after = outcome(changed(config, path, lambda _: value))
        assert isinstance(after, str | list)


def catalog_files() -> list[Path]:
    return sorted((configs() / "models").glob("*.json"))


@pytest.mark.parametrize("file", catalog_files(), ids=lambda file: file.stem)
def test_any_field_may_be_missing(file: Path) -> None:
    """Without one field, a config is refused or read, but never fails otherwise."""
    config = json.loads(file.read_text())
    random = np.random.default_rng(20261125)
    for key in random.choice(list(config), min(5, len(config)), replace=False):
        outcome({name: value for name, value in config.items() if name != key})


@pytest.mark.parametrize("family", INERT)
def test_the_list_of_exceptions_is_short(family: str) -> None:
    """Every field on the list is in the config, and does change nothing."""
    config = RELEASED[family]["config"]
    paths = {path[-1]: path for path in sizes(config)}
    before = outcome(config)
    for key in INERT[family].split():
        assert outcome(changed(config, paths[key], lambda value: 2 * value + 1)) == before, key
