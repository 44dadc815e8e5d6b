"""Fields of a config that change neither a count nor a time, in any family: the only ones that may
pass unread.
"""

_NAMES = {
    "Bookkeeping of the library": """
        architectures auto_map transformers_version _name_or_path _attn_implementation
        _attn_implementation_autoset apply_residual_connection_post_layernorm model_type
        is_encoder_decoder is_decoder return_dict use_return_dict torchscript output_attentions
        output_hidden_states output_router_logits use_cache cache_implementation id2label label2id
        problem_type task_specific_params for_llm_compressor gradient_checkpointing
        chunk_size_feed_forward use_mamba_kernels use_mambapy use_associative_scan block_size
        name_or_path
    """,
    "Training: initialisation, dropout, losses, parallel sizes": """
        initializer_range initializer_factor dropout dropout_rate resid_pdrop emb_pdrop embd_pdrop
        attn_pdrop aux_loss_alpha seq_aux moe_loss_weight router_jitter_noise input_jitter_noise
        moe_jitter_eps classifier_dropout pretraining_tp ep_size expert_capacity
        router_ignore_padding_tokens add_router_probs moe_train_capacity_factor
        moe_eval_capacity_factor moe_min_capacity moe_token_dropping moe_capacity
        enable_expert_tensor_parallelism summary_type summary_use_proj summary_activation
        summary_proj_to_labels summary_first_dropout
    """,
    "Positions by rotation or bias: a few operations on each query and key": """
        rope_theta rope_scaling rope_parameters rope_interleave indexer_rope_interleave
        rope_local_base_freq rotary_dim rotary_pct partial_rotary_factor rope_percent
        max_position_embeddings max_seq_len max_sequence_length original_max_position_embeddings
        initial_context_length relative_attention_max_distance
    """,
    "Point-wise arithmetic: activations, scales, caps, and the epsilon of norms": """
        hidden_act hidden_activation activation activation_function dense_act_fn ffn_act_fn
        swiglu_limit swiglu_alpha rms_norm_eps norm_eps layer_norm_eps layer_norm_epsilon
        norm_epsilon clip_qkv query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping
        attn_temperature_tuning floor_scale attn_scale scale_attn_weights
        scale_attn_by_inverse_layer_idx reorder_and_upcast_attn attn_output_multiplier
        embedding_multiplier_scale output_multiplier_scale max_attn_value
        layernorm_full_attention_alpha layernorm_full_attention_beta
        layernorm_linear_attention_alpha layernorm_linear_attention_beta layernorm_mlp_alpha
        layernorm_mlp_beta postnorm full_attn_alpha_factor full_attn_beta_factor
        linear_attn_alpha_factor linear_attn_beta_factor mlp_alpha_factor mlp_beta_factor
    """,
    "How the chosen experts are scored; which are eligible changes balance, not counts": """
        norm_topk_prob scoring_func routed_scaling_factor n_group topk_group moe_norm_min
        moe_normalize_expert_weights router_dtype uniform_expert_assignment
    """,
    "Multi-token prediction modules, which are neither counted nor run": """
        num_nextn_predict_layers num_mtp_modules mtp_transformer_layers use_mtp
        mtp_num_hidden_layers num_mtp_layers mtp_use_dedicated_embeddings mtp_loss_scaling_factor
    """,
    "The vision tower beside a text model: only the text model is counted": """
        vision_config mm_tokens_per_image vision_feature_layer vision_feature_select_strategy
    """,
}
"""Names of fields by the reason why they do not matter."""

_SUFFIXES = ("_token_id", "_token_index", "_dropout", "_loss_coef")

_HARMLESS = frozenset(name for names in _NAMES.values() for name in names.split())


def is_harmless(key: str) -> bool:
    """Whether a field may be passed over unread."""
    return key in _HARMLESS or key.endswith(_SUFFIXES)
