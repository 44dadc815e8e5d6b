"""Every flag and option that launch commands use, with the page of its software's documentation
that states it; read on 2026-11-25.
"""

from qsopt.spec.rules import Stack

_VLLM = "https://docs.vllm.ai/en/stable"
_SGLANG = "https://docs.sglang.io/advanced_features"
_TRTLLM = "https://nvidia.github.io/TensorRT-LLM"

_VLLM_ARGUMENTS = f"{_VLLM}/cli/serve/"
_VLLM_EXPERTS = f"{_VLLM}/serving/expert_parallel_deployment/"
_SGLANG_ARGUMENTS = f"{_SGLANG}/server_arguments.html"
_SGLANG_EXPERTS = f"{_SGLANG}/expert_parallelism.html"
_SGLANG_POOLS = f"{_SGLANG}/pd_disaggregation.html"
_TRTLLM_SERVE = f"{_TRTLLM}/commands/trtllm-serve/trtllm-serve.html"
_TRTLLM_PARALLEL = f"{_TRTLLM}/features/parallel-strategy.html"
_TRTLLM_ARGUMENTS = f"{_TRTLLM}/llm-api/reference.html"
_TRTLLM_POOLS = f"{_TRTLLM}/features/disagg-serving.html"
_TRTLLM_HELIX = f"{_TRTLLM}/features/helix.html"

FLAGS: dict[Stack, dict[str, str]] = {
    "vllm": {
        "--tensor-parallel-size": _VLLM_ARGUMENTS,
        "--pipeline-parallel-size": _VLLM_ARGUMENTS,
        "--data-parallel-size": f"{_VLLM}/serving/data_parallel_deployment/",
        "--decode-context-parallel-size": f"{_VLLM}/serving/context_parallel_deployment/",
        "--enable-expert-parallel": _VLLM_EXPERTS,
        "--all2all-backend": _VLLM_EXPERTS,
        "--enable-eplb": _VLLM_EXPERTS,
        "--eplb-config": _VLLM_EXPERTS,
        "--max-num-seqs": _VLLM_ARGUMENTS,
        "--max-num-batched-tokens": _VLLM_ARGUMENTS,
        "--max-model-len": _VLLM_ARGUMENTS,
        "--gpu-memory-utilization": _VLLM_ARGUMENTS,
        "--kv-transfer-config": f"{_VLLM}/features/nixl_connector_usage/",
    },
    "sglang": {
        "--model-path": _SGLANG_ARGUMENTS,
        "--tp-size": _SGLANG_ARGUMENTS,
        "--dp-size": "https://docs.sglang.io/docs/advanced_features/dp_dpa_router_guide.md",
        "--enable-dp-attention": "https://docs.sglang.io/docs/advanced_features/dp_dpa_router_guide.md",
        "--pp-size": _SGLANG_ARGUMENTS,
        "--dcp-size": "https://docs.sglang.io/docs/advanced_features/dcp.md",
        "--ep-size": _SGLANG_EXPERTS,
        "--moe-a2a-backend": _SGLANG_EXPERTS,
        "--deepep-mode": _SGLANG_EXPERTS,
        "--enable-eplb": _SGLANG_EXPERTS,
        "--ep-num-redundant-experts": _SGLANG_ARGUMENTS,
        "--max-running-requests": _SGLANG_ARGUMENTS,
        "--chunked-prefill-size": _SGLANG_ARGUMENTS,
        "--enable-mixed-chunk": _SGLANG_ARGUMENTS,
        "--context-length": _SGLANG_ARGUMENTS,
        "--disaggregation-mode": _SGLANG_POOLS,
        "--disaggregation-transfer-backend": _SGLANG_POOLS,
    },
    "trtllm": {
        "--config": _TRTLLM_SERVE,
        "tensor_parallel_size": _TRTLLM_PARALLEL,
        "pipeline_parallel_size": _TRTLLM_PARALLEL,
        "enable_attention_dp": _TRTLLM_PARALLEL,
        "moe_expert_parallel_size": _TRTLLM_PARALLEL,
        "moe_tensor_parallel_size": _TRTLLM_PARALLEL,
        "context_parallel_size": _TRTLLM_HELIX,
        "cp_config": _TRTLLM_HELIX,
        "moe_config": _TRTLLM_PARALLEL,
        "max_batch_size": _TRTLLM_ARGUMENTS,
        "max_num_tokens": _TRTLLM_ARGUMENTS,
        "max_seq_len": _TRTLLM_ARGUMENTS,
        "enable_chunked_prefill": _TRTLLM_ARGUMENTS,
        "cache_transceiver_config": _TRTLLM_POOLS,
    },
}
"""By software and flag; those of TensorRT-LLM without dashes are keys of its YAML file."""
