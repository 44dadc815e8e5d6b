"""Fields of a config that change neither a count nor a time, in any family: the only ones that may
pass unread.
"""


def words(text: str) -> tuple[str, ...]:
    """Names written in one text."""
    return tuple(text.split())


_NAMES = {
    "Bookkeeping of the library": """
        architectures auto_map transformers_version _name_or_path _attn_implementation
        _attn_implementation_autoset apply_residual_connection_post_layernorm model_type
        is_encoder_decoder is_decoder return_dict use_return_dict torchscript output_attentions
        output_hidden_states output_router_logits use_cache cache_implementation id2label label2id
        problem_type task_specific_params for_llm_compressor gradient_checkpointing
        chunk_size_feed_forward use_mamba_kernels use_mambapy use_associative_scan block_size
        name_or_path tokenizer_name init_method torchscript tf_legacy_loss use_bfloat16
        tokenizer_class finetuning_task
        pruned_heads is_causal _commit_hash attn_implementation layer_norm_type use_flash_attn
        _experts_implementation use_unified_vision_chunk unsloth_fixed unsloth_version
    """,
    "Defaults of text generation": """
        bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample
        early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty
        forced_bos_token_id forced_eos_token_id length_penalty max_length min_length max_new_tokens
        no_repeat_ngram_size num_beam_groups num_beams num_return_sequences prefix
        remove_invalid_values output_scores repetition_penalty return_dict_in_generate
        suppress_tokens temperature
        top_k top_p typical_p generation_config num_logits_to_keep
        ignore_index image_placeholder video_placeholder audio_placeholder
    """,
    "Training: initialisation, dropout, losses, parallel sizes": """
        initializer_range initializer_factor dropout dropout_rate resid_pdrop emb_pdrop embd_pdrop
        attn_pdrop aux_loss_alpha seq_aux moe_loss_weight router_jitter_noise input_jitter_noise
        moe_jitter_eps classifier_dropout pretraining_tp ep_size expert_capacity
        router_ignore_padding_tokens add_router_probs moe_train_capacity_factor
        moe_eval_capacity_factor moe_min_capacity moe_token_dropping moe_capacity
        enable_expert_tensor_parallelism summary_type summary_use_proj summary_activation
        summary_proj_to_labels summary_first_dropout initializer_cutoff_factor z_loss_weight
        z_loss_coefficient rescale_prenorm_residual layerdrop init_std embedding_initializer_range
        w_init_variance_scale final_w_init_variance_scale router_z_loss_coef embd_layer_dropout
        moe_aux_loss_coef sequence_parallel tensor_parallel_degree parallel_attn_mlp
    """,
    "Positions by rotation or bias: a few operations on each query and key": """
        rope_theta rope_scaling rope_parameters rope_interleave indexer_rope_interleave
        rope_local_base_freq rotary_dim rotary_pct partial_rotary_factor rope_percent
        max_position_embeddings max_seq_len max_sequence_length original_max_position_embeddings
        initial_context_length relative_attention_max_distance use_mrope mrope_section
        rope_ratio rope_type mrope_interleaved global_rope_theta local_rope_theta swa_rope_theta
        compress_rope_theta rotary_emb_base rotary_base model_max_length seq_length
        max_context_len use_dynamic_ntk rope_interleaved partial_rotary_factors use_rope
        rotary_type rope_embedding_base rope_pct mup_enabled
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
        logit_scale logits_scaling embedding_multiplier residual_multiplier attention_multiplier
        logits_soft_cap mlp_hidden_act mamba_hidden_act hidden_mamba_act attention_value_scale
        layernorm_epsilon norm_epsilon scale_emb scale_depth dim_model_base activation_situ_beta
        activation_situ_linear_beta use_gemma_norm final_logit_scale activation_func norm_type
        swiglu_limits swiglu_limits_shared attn_output_gate_type enable_attention_fp32_softmax
        enable_lm_head_fp32 enable_moe_fp32_combine xielu_alpha_p_init
    """,
    "How the chosen experts are scored; which are eligible changes balance, not counts": """
        norm_topk_prob scoring_func routed_scaling_factor n_group topk_group moe_norm_min
        moe_normalize_expert_weights router_dtype uniform_expert_assignment score_function
        score_func moe_router_topk_scaling_factor moe_router_activation_func router_scaling_factor
        moe_renormalize num_expert_group use_grouped_topk route_norm route_scale expert_selection_fn
        moe_routed_scaling_factor moe_router_logit_softcapping moe_router_use_sigmoid
        moe_router_dtype moe_router_scaling_factor moe_apply_router_weight_on_input
        shared_expert_combination_strategy router_logit_softcapping
    """,
    "Multi-token prediction modules, whose number alone counts (see `stored.draft_layers`)": """
        num_nextn_predict_layers num_mtp_modules mtp_transformer_layers use_mtp
        mtp_num_hidden_layers num_mtp_layers mtp_use_dedicated_embeddings mtp_loss_scaling_factor
        mtp_layer_types mtp_mlp_layer_types mtp_layers_block_type mtp_hybrid_override_pattern
        num_mtp_heads
    """,
}
"""Names of fields by the reason why they do not matter."""

_SUFFIXES = ("_token_id", "_token_index", "_token_ids", "_dropout", "_pdrop", "_loss_coef", "_prob")

_HARMLESS = frozenset(name for names in _NAMES.values() for name in names.split())

_AT_VALUE: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "attention_bias": (False,),
    "attn_output_gate": (False,),
    "attention_output_gate": (False,),
    "bias": (False,),
    "mlp_bias": (False,),
    "qkv_bias": (False,),
    "use_bias": (False,),
    "use_qkv_bias": (False,),
    "use_qk_norm": (False,),
    "use_cla": (False,),
    "use_sliding_window": (False,),
    "lm_head_bias": (False,),
    "mlp_only_layers": ([],),
    "moe_layers": ([],),
    "num_experts": (0,),
    "n_routed_experts": (0,),
    "num_local_experts": (0,),
    "num_experts_per_tok": (0,),
    "shared_expert_intermediate_size": (0,),
    "shared_intermediate_size": (0,),
    "quantization_config": ({},),
    "moe_latent_size": (0,),
}
"""Fields that change nothing at these values, in families that do not read them: they switch
something off.
"""


def is_harmless(key: str) -> bool:
    """Whether a field may be passed over unread."""
    return key in _HARMLESS or key.endswith(_SUFFIXES)


def is_harmless_at(key: str, value: object) -> bool:
    """Whether a field may be passed over unread at this value: null, off, or one that means what
    every layer does anyway.
    """
    if value is None or is_harmless(key):
        return True
    if key == "layer_types":
        return isinstance(value, list) and set(map(str, value)) == {"full_attention"}
    return any(value == off and type(value) is type(off) for off in _AT_VALUE.get(key, ()))
