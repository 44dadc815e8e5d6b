"""What llm-analysis (https://github.com/cli99/llm-analysis) answers: a roofline of every module, at
the whole of the peaks.

The release on PyPI knows no FFN with a gate, whose three matrices are those of one without a gate
that is half as wide again: so it is told that width. It has no H200 and no latent attention.
"""

# pyright: reportMissingImports=false

import logging

from llm_analysis import analysis, config

from experiments.peers.probes.probe import Question, answer, rate

SYSTEMS = {"h100": "h100-sxm-80gb"}
GATED = 3 / 2
"""Width of an FFN of two matrices over that of one of three with the same weights."""


def steps(question: Question) -> list[float] | None:
    """Time of a step at each batch [s]; None of what it does not know."""
    if question["config"]["model_type"] != "mixtral" or question["accelerator"] not in SYSTEMS:
        return None
    model = described(question)
    return [step_seconds(model, question, batch) for batch in question["batches"]]


def step_seconds(model: config.ModelConfig, question: Question, batch: int) -> float:
    whole = analysis.LLMAnalysis(
        model,
        config.get_gpu_config_by_name(SYSTEMS[question["accelerator"]]),
        config.get_dtype_config_by_name("w16a16e16"),
        config.ParallelismConfig(tp_size=question["tensor"]),
        flops_efficiency=1.0,
        hbm_memory_efficiency=1.0,
    )
    result = whole.inference(batch, question["context"], num_tokens_to_generate=2)
    return result["decode_latency"]


def described(question: Question) -> config.ModelConfig:
    """The model as it is told it."""
    given = question["config"]
    width = GATED * given["intermediate_size"]
    return config.ModelConfig(
        name=question["model"],
        num_layers=given["num_hidden_layers"],
        n_head=given["num_attention_heads"],
        hidden_dim=given["hidden_size"],
        vocab_size=given["vocab_size"],
        max_seq_len=given["max_position_embeddings"],
        num_key_value_heads=given["num_key_value_heads"],
        ffn_embed_dim=round(width),
        expansion_ratio=width / given["hidden_size"],
        model_type="llama",
        moe_num_experts=given["num_local_experts"],
        moe_top_k=given["num_experts_per_tok"],
    )


def many(question: Question) -> float:
    """Steps of many batches, in one process [1/s]."""
    model = described(question)
    return rate(
        lambda index: step_seconds(model, question, 1 + index % question["most"]), question["count"]
    )


def main() -> None:
    """Answer."""
    logging.disable(logging.CRITICAL)
    answer(steps=steps, many=many)
