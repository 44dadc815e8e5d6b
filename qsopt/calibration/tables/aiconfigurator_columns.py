"""Rows of aiconfigurator's parquet tables under the column names of the CSV tables, one function
for each kind of table.

Only rows on a thin grid are taken: powers of two of tokens, of four of sequences, contexts and
prompts, so that a fit is minutes of work; no row is chosen by what it measured. `latency` is in
milliseconds, except in tables of exchanges.

The file is long because the package has a dozen forms of tables, each with a short function here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

Columns = dict[str, np.ndarray]

TOKENS = tuple(2**power for power in range(16))
"""Tokens, or rows of a product, that are taken."""

_SEQUENCES = tuple(4**power for power in range(6))
_CONTEXTS = (128, 512, 2048, 8192, 32768, 131072)
_PROMPTS = (128, 512, 2048, 8192, 16384, 32768)

_MODELS = {
    (4096, 14336, 2, 8): "Mixtral-8x7B",
    (6144, 16384, 2, 8): "Mixtral-8x22B",
    (7168, 2048, 8, 256): "DeepSeek-V3",
    (7168, 2048, 8, 384): "Kimi-K2",
    (4096, 1536, 8, 128): "Qwen3-235B-A22B",
    (2048, 768, 8, 128): "Qwen3-30B-A3B",
    (2880, 2880, 4, 128): "gpt-oss-120b",
    (2880, 2880, 4, 32): "gpt-oss-20b",
    (5120, 8192, 1, 16): "Llama-4-Scout",
    (5120, 8192, 1, 128): "Llama-4-Maverick",
    (2688, 1856, 6, 128): "Nemotron-3-Nano-30B",
    (1024, 2688, 22, 512): "Nemotron-3-Super-120B",
    (2048, 5120, 22, 512): "Nemotron-3-Ultra-550B",
    (8192, 5120, 22, 512): "Nemotron-3-Ultra-550B, full width",
}
"""Names of layers by hidden and expert width, top-k and experts; others are called by these sizes.
"""

_ELEMENT = {"int8": 1.0}
"""Bytes of an element of a collective; all other formats there have two."""


@dataclass(frozen=True)
class Source:
    """How one kind of table is read."""

    convert: Callable[[Mapping[str, np.ndarray], str], Columns]
    """Columns of the CSV schema from raw columns and an accelerator's name."""
    series: tuple[str, ...] = ()
    """Columns that name a series of rows; where given, a sample of series is taken."""
    group: tuple[str, ...] = ("gpu", "backend", "dtype")
    """Columns of which each combination has its own sample."""
    any_release: bool = False
    """Whether old releases are read too, since they hold rows that later ones do not."""


def moe(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """MoE layers; experts hit and rows of the measured rank are added later."""
    keep = _within(raw["num_tokens"], TOKENS)
    names = {
        "dtype": "moe_dtype",
        "hidden": "hidden_size",
        "inter": "inter_size",
        "topk": "topk",
        "num_experts": "num_experts",
    }
    names |= {
        "moe_tp": "moe_tp_size",
        "moe_ep": "moe_ep_size",
        "distribution": "distribution",
        "num_tokens": "num_tokens",
    }
    columns = _renamed(raw, names, keep) | _timed(raw, "latency_ms", keep)
    return columns | {"model": _model(columns), "kernel": raw["kernel_source"][keep]}


def wide_moe(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """MoE layers of wide expert parallelism."""
    none = np.full(len(raw["num_tokens"]), "")
    columns = moe({**raw, "num_slots": raw.get("num_slots", none)}, gpu)
    keep = _within(raw["num_tokens"], TOKENS)
    return columns | {
        "num_slots": raw.get("num_slots", none)[keep],
        "rank0_num_tokens": raw.get("rank0_num_tokens", none)[keep],
    }


def gemm(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Dense products."""
    keep = _within(raw["m"], TOKENS)
    return _renamed(raw, {"dtype": "gemm_dtype", "m": "m", "n": "n", "k": "k"}, keep) | _timed(
        raw, "latency_ms", keep
    )


def attention(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Decode attention over grouped KV heads, without a window."""
    keep = _decoding(raw) & (raw["beam_width"] == 1)
    if "window_size" in raw:
        keep &= raw["window_size"] == 0
    names = {"heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
    return _renamed(raw, names, keep) | _cached(raw, keep)


def mla(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Absorbed latent attention of the heads that up to eight-fold tensor parallelism leaves of
    128.
    """
    keep = _decoding(raw) & (raw["num_heads"] >= 16)
    return _renamed(raw, {"heads": "num_heads"}, keep) | _cached(raw, keep)


def prompt_attention(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Attention of whole prompts over grouped KV heads, without a window or a cached prefix."""
    keep = _reading(raw) & (raw["beam_width"] == 1)
    if "window_size" in raw:
        keep &= raw["window_size"] == 0
    names = {"heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
    return _renamed(raw, names, keep) | _read(raw, "attn_dtype", keep)


def prompt_mla(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Latent attention of whole prompts over expanded keys and values."""
    keep = _reading(raw)
    return _renamed(raw, {"heads": "num_heads"}, keep) | _read(raw, "mla_dtype", keep)


def nccl(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Collectives of NCCL and oneCCL; the table counts elements."""
    library = np.char.lower(
        raw.get("kernel_source", np.full(len(raw["latency"]), "nccl")).astype(str)
    )
    columns = _collective(raw, gpu, "nccl_dtype", np.full(len(raw["latency"]), ""))
    return columns | {"impl": library}


def custom(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """All-reduce of a serving backend; the table counts elements."""
    return _collective(
        raw, gpu, "allreduce_dtype", np.char.add(":", raw["kernel_source"].astype(str))
    )


def _collective(raw: Mapping[str, np.ndarray], gpu: str, dtype: str, kernel: np.ndarray) -> Columns:
    keep = np.ones(len(raw["latency"]), dtype=bool)
    size = np.array([_ELEMENT.get(str(name), 2.0) for name in raw[dtype]])
    nodes = np.ceil(raw["num_gpus"] / (72 if gpu.startswith("gb") else 8)).astype(int)
    names = {"op": "op_name", "dtype": dtype, "num_gpus": "num_gpus"}
    columns = _renamed(raw, names, keep) | _timed(raw, "latency_ms", keep)
    return columns | {
        "message_bytes": (raw["message_size"] * size).astype(int),
        "num_nodes": nodes,
        "kernel": kernel,
    }


def exchanged(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Dispatch and combine as TensorRT-LLM and vLLM time them."""
    keep = np.ones(len(raw["latency"]), dtype=bool)
    names = {
        "phase": "phase",
        "comm_dtype": "comm_dtype",
        "ep_size": "ep_size",
        "num_nodes": "node_num",
        "kernel": "comm_backend",
    }
    names |= {
        "hidden": "hidden_size",
        "topk": "topk",
        "num_experts": "num_experts",
        "tokens_per_rank": "num_tokens",
    }
    return _exchange(_renamed(raw, names, keep) | {"latency_us": raw["latency"], "sms": raw["sms"]})


def nvlink(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Dispatch and combine over NVLink of racks, in milliseconds."""
    keep = raw["distribution"] == "balanced"
    names = {
        "comm_dtype": "moe_dtype",
        "ep_size": "moe_ep_size",
        "kernel": "kernel_source",
        "hidden": "hidden_size",
    }
    names |= {"topk": "topk", "num_experts": "num_experts", "tokens_per_rank": "num_tokens"}
    columns = _renamed(raw, names, keep) | {"latency_us": raw["latency"][keep] * 1e3}
    phase = np.array([str(name).removeprefix("alltoall_") for name in raw["op_name"][keep]])
    return _exchange(columns | {"phase": phase, "num_nodes": np.ones(len(phase), dtype=int)})


def deepep_low_latency(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Dispatch (fp8) and combine (bf16) of DeepEP for decoding."""
    return _deepep(raw, gpu, "deepep_ll", "{}_avg_t_us")


def deepep_normal(raw: Mapping[str, np.ndarray], gpu: str) -> Columns:
    """Dispatch (fp8) and combine (bf16) of DeepEP for throughput."""
    return _deepep(raw, gpu, "deepep_normal", "{}_transmit_us")


def _deepep(raw: Mapping[str, np.ndarray], gpu: str, kernel: str, time: str) -> Columns:
    keep = np.ones(len(raw["num_token"]), dtype=bool)
    names = {
        "num_nodes": "node_num",
        "hidden": "hidden_size",
        "topk": "num_topk",
        "num_experts": "num_experts",
    }
    one = _renamed(raw, names | {"tokens_per_rank": "num_token"}, keep)
    one |= {
        "ep_size": raw["node_num"] * (4 if gpu.startswith("gb") else 8),
        "kernel": np.full(len(keep), kernel),
    }
    phases = [
        one
        | {
            "phase": np.full(len(keep), phase),
            "comm_dtype": np.full(len(keep), form),
            "latency_us": raw[time.format(phase)],
        }
        for phase, form in (("dispatch", "fp8"), ("combine", "bf16"))
    ]
    return _exchange(
        {name: np.concatenate([phase[name] for phase in phases]) for name in phases[0]}
    )


def _exchange(columns: Columns) -> Columns:
    """The shape stands for the model, which these tables do not name."""
    names = [
        f"{hidden} x {experts}"
        for hidden, experts in zip(columns["hidden"], columns["num_experts"], strict=True)
    ]
    return columns | {"model": np.array(names, dtype=str)}


def _renamed(
    raw: Mapping[str, np.ndarray], names: Mapping[str, str], keep: Bool[np.ndarray, " rows"]
) -> Columns:
    return {name: raw[old][keep] for name, old in names.items()}


def _timed(raw: Mapping[str, np.ndarray], name: str, keep: Bool[np.ndarray, " rows"]) -> Columns:
    return {name: raw["latency"][keep]}


def _cached(raw: Mapping[str, np.ndarray], keep: Bool[np.ndarray, " rows"]) -> Columns:
    names = {"kv_dtype": "kv_cache_dtype", "batch": "batch_size", "kernel": "kernel_source"}
    return (
        _renamed(raw, names, keep)
        | _timed(raw, "latency_ms", keep)
        | {"seq": (raw["isl"] + raw["step"])[keep]}
    )


def _decoding(raw: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " rows"]:
    return _within(raw["batch_size"], _SEQUENCES) & _within(raw["isl"] + raw["step"], _CONTEXTS)


def _read(raw: Mapping[str, np.ndarray], dtype: str, keep: Bool[np.ndarray, " rows"]) -> Columns:
    names = {"attention_dtype": dtype, "kv_dtype": "kv_cache_dtype", "batch": "batch_size"}
    names |= {"isl": "isl", "kernel": "kernel_source"}
    return _renamed(raw, names, keep) | _timed(raw, "latency_ms", keep)


def _reading(raw: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " rows"]:
    sizes = _within(raw["batch_size"], _SEQUENCES) & _within(raw["isl"], _PROMPTS)
    return sizes & (raw["step"] == 0)


def _within(column: np.ndarray, values: tuple[int, ...]) -> Bool[np.ndarray, " rows"]:
    return np.isin(column, values)


def _model(columns: Columns) -> np.ndarray:
    shapes = zip(
        *(columns[name].tolist() for name in ("hidden", "inter", "topk", "num_experts")),
        strict=True,
    )
    return np.array(
        [_MODELS.get(shape, "{}x{} top {} of {}".format(*shape)) for shape in shapes], dtype=str
    )


_SHAPE = ("hidden", "inter", "topk", "num_experts", "moe_tp", "moe_ep", "distribution")

SOURCES = {
    "moe_perf": Source(moe, _SHAPE),
    "wideep_generation_moe_perf": Source(wide_moe),
    "wideep_moe_perf": Source(wide_moe, (*_SHAPE, "num_slots")),
    "gemm_perf": Source(gemm, ("n", "k")),
    "generation_attention_perf": Source(
        attention, ("heads", "kv_heads", "head_dim"), ("gpu", "backend", "kv_dtype")
    ),
    "generation_mla_perf": Source(mla),
    "context_attention_perf": Source(
        prompt_attention,
        ("heads", "kv_heads", "head_dim"),
        ("gpu", "backend", "attention_dtype", "kv_dtype"),
    ),
    "context_mla_perf": Source(prompt_mla),
    "nccl_perf": Source(nccl),
    "oneccl_perf": Source(nccl),
    "custom_allreduce_perf": Source(custom),
    "moe_a2a_perf": Source(exchanged),
    "trtllm_alltoall_perf": Source(nvlink),
    "wideep_deepep_ll_perf": Source(deepep_low_latency, any_release=True),
    "wideep_deepep_normal_perf": Source(deepep_normal, any_release=True),
}
"""Tables that are read, by the name of their file."""
