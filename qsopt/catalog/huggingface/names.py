"""Names that matrices and blocks have in released checkpoints."""

from qsopt.catalog.huggingface.harmless import words

ATTENTION, DENSE, SHARED, EXPERTS = "attention", "dense", "shared", "experts"
"""Parts of a model that may have a format each."""

_FUSED = words("qkv_proj query_key_value c_attn Wqkv wqkv W_pack qkv")

MATRICES: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", *_FUSED),
    "k": ("k_proj", *_FUSED),
    "v": ("v_proj", *_FUSED),
    "o": words("o_proj out_proj dense c_proj wo wo_a wo_b"),
    "q_a": words("q_a_proj fused_qkv_a_proj_with_mqa wq_a"),
    "q_b": words("q_b_proj q_proj wq_b"),
    "kv_a": words("kv_a_proj_with_mqa fused_qkv_a_proj_with_mqa wkv"),
    "kv_b": words("kv_b_proj wkv_b"),
    "indexer": words("indexer compressor index_k_proj index_q_proj"),
    "in": words("in_proj in_proj_qkv in_proj_qkvz qkv_proj q_proj k_proj v_proj"),
    "gate_in": words("in_proj in_proj_z in_proj_qkvz output_gate g_proj g_a_proj"),
    "inner": words("x_proj dt_proj g_b_proj f_a_proj f_b_proj"),
    "out": words("out_proj o_proj"),
    "gate": words("gate_proj gate_up_proj w1 linear_v gate_up"),
    "up": words("up_proj gate_up_proj w3 linear fc1 c_fc dense_h_to_4h gate_up"),
    "down": words("down_proj w2 linear_1 fc2 c_proj dense_4h_to_h"),
}
"""Names of each matrix."""

BLOCKS: dict[str, tuple[str, ...]] = {
    ATTENTION: words("self_attn attn attention linear_attn mixer mamba conv"),
    DENSE: words("mlp feed_forward ffn mixer mlps.0"),
    SHARED: words(
        "mlp.shared_experts mlp.shared_expert mixer.shared_experts shared_mlp "
        "block_sparse_moe.shared_experts ffn.shared_experts feed_forward.shared_expert"
    ),
    EXPERTS: words(
        "mlp.experts.0 block_sparse_moe.experts.0 mixer.experts.0 experts.0 "
        "feed_forward.experts.0 ffn.experts.0 mlp.experts moe.experts"
    ),
}
"""Names of the block that each part's matrices stand in."""

PREFIXES = words("model.layers model.language_model.layers language_model.model.layers")
"""What stands before the number of a layer."""

WHOLE = words("mlp feed_forward ffn block_sparse_moe moe")
"""Blocks that hold experts, shared experts or a dense layer, whichever the layer has."""

STATES = words("mamba conv short_conv")
"""Blocks with a state in place of attention."""

CONTAINERS = frozenset(
    (*WHOLE, *STATES, "experts", "mlps", "mixer", "self_attn", "attn", "attention", "linear_attn")
)
"""Blocks whose path means all of their matrices."""

KEPT = frozenset(
    words(
        """lm_head embed_tokens word_embeddings wte gate router shared_expert_gate classifier
        e_score_correction_bias conv1d in_proj_a in_proj_b in_proj_ba b_proj a_proj weights_proj
        indexers_proj proj embed embed_out embeddings output score per_layer_model_projection
        shared_head head eh_proj wg"""
    )
)
"""Modules that are wide in any case, or too small to matter, by the last name of their path."""

OUTSIDE = frozenset(
    words(
        """visual vision_model vision_tower vision_embed_tokens multi_modal_projector mm_projector
        mtp embed_vision embed_audio audio_tower audio_model sound_encoder sound_projection aligner
        patch_merge_mlp connector projector eh_proj vision audio merger image_newline mlp1"""
    )
)
"""Modules outside the language model, by any name of their path."""

STEMS = frozenset(words("model layers language_model backbone transformer decoder h blocks lm"))
"""Names that only lead to the layers."""
