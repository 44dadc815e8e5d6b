"""Small tables of measurements, made up by rules of thumb, for the questions of schemas that ask
about tables: what stands in the answers does not matter, only its keys.
"""

from pathlib import Path

from qsopt.files import write_text

ACCELERATORS = {"h100_sxm": (3.0e12, 8e14), "b200_sxm": (7.0e12, 1.8e15)}
"""Bandwidth [byte/s] and arithmetic in bf16 [FLOP/s] of those in the tables, in round numbers."""

LOG = (
    "engine,version,model,weight_dtype,kv_dtype,gpu,tp,pp,dp,ep,utilization,weights_gib_per_gpu,"
    "kv_tokens,kv_gib_per_gpu\n"
    "vllm,1,Qwen/Qwen3-8B,bf16,bf16,H100,1,1,1,1,0.9,15.3,,53\n"
    "vllm,1,Qwen/Qwen3-8B,bf16,bf16,H200,1,1,1,1,0.9,15.3,,108\n"
    "vllm,1,meta-llama/Llama-3.1-8B,bf16,bf16,H100,2,1,1,1,0.9,7.6,,60\n"
    "vllm,1,Unheard-1B,bf16,bf16,H100,1,1,1,1,0.9,2,,70\n"
)
"""What servers print at their start, with a model that nobody knows."""


def products() -> str:
    """Matrix products by the roofline with 5 us of a launch."""
    lines = ["gpu,backend,version,dtype,m,n,k,latency_ms"]
    for gpu, (bandwidth, peak) in ACCELERATORS.items():
        for m in (1, 16, 256, 4096):
            for n, k in ((512, 512), (2048, 2048), (4096, 8192), (8192, 1024)):
                moved, done = 2.0 * (m * k + k * n + m * n), 2.0 * m * n * k
                seconds = 5e-6 + max(moved / bandwidth, done / peak) / 0.7
                lines.append(f"{gpu},vllm,1,bfloat16,{m},{n},{k},{seconds * 1e3:.6f}")
    return "\n".join(lines) + "\n"


def results() -> str:
    """End-to-end results of servers."""
    lines = ["model,gpu,backend,precision,tp,n_gpus,isl,osl,concurrency,tpot_ms,out_tok_s_gpu_est"]
    lines += [
        f"{model},{gpu},vllm,bf16,1,1,1024,256,{batch},{batch / 4 + 8},{batch * 20}"
        for model in ("qwen3-8b", "olmoe-1b-7b")
        for gpu in ("h100_sxm", "h200_sxm")
        for batch in (1, 8)
    ]
    return "\n".join(lines) + "\n"


def write_tables(folder: Path) -> None:
    """Folders of tables: `all`, `operators` and `servers`."""
    tables = {"products": products(), "results": results(), "log": LOG}
    for name, files in {
        "all": tuple(tables),
        "operators": ("products",),
        "servers": ("log",),
    }.items():
        for file in files:
            write_text(folder / name / f"{file}.csv", tables[file])
