"""Every file that `qsopt validate` and `qsopt calibrate` can read: which columns it is known by,
which it needs, which it may have, and their units.

A file is known by its columns, not by its name; further columns are passed over.
"""

from typing import NamedTuple


class ColumnOf(NamedTuple):
    """A column of a table."""

    name: str
    unit: str
    """Empty for texts and counts."""
    about: str
    needed: bool = True


class Schema(NamedTuple):
    """A kind of table."""

    name: str
    about: str
    known_by: frozenset[str]
    """A file with these columns is of this kind."""
    columns: tuple[ColumnOf, ...]

    def missing(self, columns: object) -> list[str]:
        """Columns that are needed and not there, in the order of the schema."""
        return [each.name for each in self.columns if each.needed and each.name not in columns]  # pyright: ignore[reportOperatorIssue]


def _optional(name: str, unit: str, about: str) -> ColumnOf:
    return ColumnOf(name, unit, about, needed=False)


_GPU = ColumnOf("gpu", "", "accelerator, such as h100_sxm, H100 or a100_pcie")
_BACKEND = ColumnOf("backend", "", "software: trtllm, vllm, sglang or another name")
_DTYPE = ColumnOf("dtype", "", "format of the weights, such as bfloat16, fp8, fp8_block, nvfp4")
_KV = ColumnOf("kv_dtype", "", "format of the cache")
_SCORES = ColumnOf("attention_dtype", "", "format that scores and sums run in")
_HEADS = ColumnOf("heads", "", "query heads of the device")
_KV_HEADS = ColumnOf("kv_heads", "", "KV heads of the device")
_HEAD_DIM = ColumnOf("head_dim", "", "size of a head")
_BATCH = ColumnOf("batch", "", "sequences")
_TIME = ColumnOf("latency_ms", "ms", "time of one operator")
_MODEL = ColumnOf("model", "", "catalog name, or as people write it, such as Llama-3-70B")
_VERSION = _optional("version", "", "release of the software")
_ISL = ColumnOf("isl", "tokens", "prompt")
_OSL = ColumnOf("osl", "tokens", "answer")
_TP = ColumnOf("tp", "", "devices of a copy of attention")
_EP = _optional("ep", "", "expert ranks; 1 if left out")
_PP = _optional("pp", "", "pipeline stages; 1 if left out")
_DP = _optional("attention_dp", "", "attention data ranks; 1 if left out")

_MOE = (
    _GPU,
    _BACKEND,
    _DTYPE,
    _MODEL,
    ColumnOf("hidden", "", "hidden size"),
    ColumnOf("inter", "", "width of an expert"),
    ColumnOf("topk", "", "experts of a token"),
    ColumnOf("moe_tp", "", "devices that share an expert"),
    ColumnOf("num_tokens", "tokens", "of the layer"),
    _TIME,
    _VERSION,
)

WIDE = Schema(
    "MoE layer of wide expert parallelism",
    "one rank of many, its tokens already there",
    frozenset(
        {"hidden", "inter", "topk", "num_experts", "moe_tp", "moe_ep", "distribution"}
        | {"num_tokens", "latency_ms", "num_slots"}
    ),
    (
        *_MOE,
        ColumnOf("num_experts", "", "routed experts"),
        ColumnOf("moe_ep", "", "expert ranks"),
        ColumnOf("distribution", "", "how tokens choose, such as power_law_1.2 or balanced"),
        ColumnOf("num_slots", "", "places for experts"),
    ),
)
MOE = Schema(
    "MoE layer",
    "the routed experts of one layer",
    frozenset({"uniq_local", "rows_local", "latency_ms"}),
    (
        *_MOE,
        ColumnOf("uniq_local", "", "experts hit on the measured rank"),
        ColumnOf("rows_local", "", "token rows that it computes"),
    ),
)
GEMM = Schema(
    "GEMM",
    "a product of m rows with an n x k matrix",
    frozenset({"m", "n", "k", "latency_ms"}),
    (
        _GPU,
        _BACKEND,
        _DTYPE,
        *(ColumnOf(name, "", "size of the product") for name in "mnk"),
        _TIME,
        _VERSION,
    ),
)
PROMPT_ATTENTION = Schema(
    "attention of prompts",
    "causal attention over whole prompts",
    frozenset({"heads", "kv_heads", "head_dim", "isl", "latency_ms"}),
    (_GPU, _BACKEND, _HEADS, _KV_HEADS, _HEAD_DIM, _SCORES, _KV, _BATCH, _ISL, _TIME, _VERSION),
)
PROMPT_MLA = Schema(
    "latent attention of prompts",
    "the same with latents expanded",
    frozenset({"heads", "attention_dtype", "isl", "latency_ms"}),
    (_GPU, _BACKEND, _HEADS, _SCORES, _KV, _BATCH, _ISL, _TIME, _VERSION),
)
_SEQ = ColumnOf("seq", "tokens", "context of each sequence")
ATTENTION = Schema(
    "decode attention",
    "over grouped KV heads",
    frozenset({"heads", "kv_heads", "head_dim", "seq", "latency_ms"}),
    (_GPU, _BACKEND, _HEADS, _KV_HEADS, _HEAD_DIM, _KV, _BATCH, _SEQ, _TIME, _VERSION),
)
MLA = Schema(
    "latent decode attention",
    "over the latents of DeepSeek-V3",
    frozenset({"heads", "kv_dtype", "seq", "latency_ms"}),
    (_GPU, _BACKEND, _HEADS, _KV, _BATCH, _SEQ, _TIME, _VERSION),
)
_NODES = ColumnOf("num_nodes", "", "scale-up domains")
COLLECTIVE = Schema(
    "collective",
    "inside one scale-up domain",
    frozenset({"message_bytes", "num_gpus", "op", "latency_ms"}),
    (
        _GPU,
        ColumnOf("op", "", "all_reduce, all_gather, reduce_scatter or alltoall"),
        ColumnOf("impl", "", "implementation"),
        _DTYPE,
        ColumnOf("num_gpus", "", "devices"),
        _NODES,
        ColumnOf("message_bytes", "byte", "message"),
        _TIME,
    ),
)
EXCHANGE = Schema(
    "dispatch and combine",
    "tokens on their way to experts and back",
    frozenset({"tokens_per_rank", "ep_size", "phase", "latency_us"}),
    (
        _GPU,
        ColumnOf("impl", "", "implementation"),
        ColumnOf("phase", "", "dispatch or combine"),
        ColumnOf("comm_dtype", "", "format on the wire"),
        ColumnOf("ep_size", "", "expert ranks"),
        _NODES,
        ColumnOf("hidden", "", "hidden size"),
        ColumnOf("topk", "", "experts of a token"),
        _MODEL,
        ColumnOf("tokens_per_rank", "tokens", "of each rank"),
        ColumnOf("latency_us", "us", "time of one way"),
    ),
)
SERVING = Schema(
    "end-to-end result",
    "a server under load",
    frozenset({"tpot_ms", "concurrency", "isl", "osl"}),
    (
        _MODEL,
        _GPU,
        _BACKEND,
        _TP,
        _ISL,
        _OSL,
        ColumnOf("concurrency", "", "requests at once"),
        ColumnOf("tpot_ms", "ms", "time per output token"),
        _optional("ttft_ms", "ms", "time to first token"),
        _optional("precision", "", "format of the checkpoint"),
        _EP,
        _PP,
        _DP,
        _optional("n_gpus", "", "devices of the server; tp x attention_dp x pp if left out"),
        _optional("out_tok_s_gpu_measured", "tokens/s", "output tokens of a device"),
        _optional("out_tok_s_gpu_est", "tokens/s", "the same, estimated"),
    ),
)
PUBLISHED = Schema(
    "published throughput",
    "a rate without a time per token",
    frozenset({"metric", "value", "isl", "osl"}),
    (
        _MODEL,
        _GPU,
        ColumnOf("n_gpus", "", "devices"),
        _TP,
        _ISL,
        _OSL,
        ColumnOf("metric", "", "what value is, such as output_tok_s"),
        ColumnOf("value", "tokens/s", "the rate"),
        _optional("batch", "", "sequences; as many as fit the memory if left out"),
        _optional("backend", "", "software"),
        _optional("precision", "", "format of the checkpoint"),
        _EP,
        _PP,
        _DP,
        _optional("source", "", "where it was published"),
    ),
)
POWER = Schema(
    "power and energy of a server",
    "while it decodes",
    frozenset({"power_w", "out_tok_s", "n_gpus", "isl_guess", "osl", "batch"}),
    (
        _MODEL,
        _GPU,
        ColumnOf("n_gpus", "", "devices of the server"),
        _BACKEND,
        ColumnOf("precision", "", "format of the checkpoint"),
        ColumnOf("ep", "", "expert ranks"),
        ColumnOf("attention_dp", "", "attention data ranks"),
        ColumnOf("isl_guess", "tokens", "prompt, if only about"),
        _OSL,
        ColumnOf("batch", "", "mean of sequences that decode at once"),
        ColumnOf("out_tok_s", "tokens/s", "output of the server"),
        ColumnOf("power_w", "W", "of all devices, idle power included"),
        _optional("joules_per_token", "J", "of an output token; power over output if left out"),
    ),
)
MEMORY = Schema(
    "memory of a server at its start",
    "as its log prints it",
    frozenset({"engine", "weight_dtype", "weights_gib_per_gpu"}),
    (
        ColumnOf("engine", "", "vllm, sglang or trtllm; of any other weights alone are compared"),
        _MODEL,
        ColumnOf(
            "weight_dtype",
            "",
            "format and, in brackets, what has it: fp8 (experts only); the catalog's if empty",
        ),
        _GPU,
        ColumnOf("weights_gib_per_gpu", "GiB", "weights of a device; may be empty"),
        _optional("kv_gib_per_gpu", "GiB", "room for the cache on a device"),
        _optional("kv_tokens", "tokens", "the same in tokens, where GiB are not printed"),
        _optional("utilization", "", "the software's own share; without it no room is compared"),
        _optional("kv_dtype", "", "format of the cache; bf16 if left out"),
        _VERSION,
        _optional("tp", "", "tensor ranks of attention; 1 if left out"),
        _PP,
        _optional("dp", "", "attention data ranks; 1 if left out"),
        _EP,
        _optional("max_num_batched_tokens", "tokens", "of the first forward"),
        _optional("max_num_seqs", "", "sequences that the first forward samples for"),
    ),
)

SCHEMAS = (
    WIDE,
    MOE,
    GEMM,
    PROMPT_ATTENTION,
    PROMPT_MLA,
    ATTENTION,
    MLA,
    COLLECTIVE,
    EXCHANGE,
    SERVING,
    PUBLISHED,
    POWER,
    MEMORY,
)
"""In the order in which they are tried."""


def schema_of(columns: object) -> Schema | None:
    """The first schema that a file's columns are known by."""
    return next((each for each in SCHEMAS if each.known_by <= set(columns)), None)  # pyright: ignore[reportArgumentType]


def template() -> str:
    """All schemas as text."""
    return "\n\n".join(map(_described, SCHEMAS))


def _described(schema: Schema) -> str:
    lines = [
        f"{schema.name}: {schema.about}",
        f"  known by {', '.join(sorted(schema.known_by))}",
        "  " + ",".join(each.name for each in schema.columns),
    ]
    for each in schema.columns:
        unit = f" [{each.unit}]" if each.unit else ""
        kind = "required" if each.needed else "optional"
        lines.append(f"    {each.name:24}{kind}  {each.about}{unit}")
    return "\n".join(lines)
