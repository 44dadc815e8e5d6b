"""What aiconfigurator (https://github.com/ai-dynamo/aiconfigurator) answers, from its tables of
measured kernels.

It knows these models by name. Mixtral-8x7B is among its files, but asked by name it looks for it at
Hugging Face; so every other model is given as a folder that holds a `config.json`.
"""

# pyright: reportMissingImports=false

import logging
from typing import Any

from aiconfigurator.cli.api import cli_default, cli_estimate
from aiconfigurator.sdk import config, models, perf_database
from aiconfigurator.sdk.backends.factory import get_backend
from aiconfigurator.sdk.inference_session import InferenceSession

from experiments.peers.probes.probe import Question, answer, rate

NAMES = {
    "deepseek-v3": "deepseek-ai/DeepSeek-V3",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-235b-a22b": "Qwen/Qwen3-235B-A22B",
}
SIZES = {"tensor": "tp", "pipeline": "pp", "data": "dp", "expert": "moe_ep", "batch": "bs"}
"""Columns of its tables; `batch` is that of an attention rank."""


def path(question: Question) -> str:
    """How it is told a model."""
    known = NAMES.get(question["model"])
    return question["folder"] if known is None else known


def system(question: Question) -> str:
    return f"{question['accelerator']}_sxm"


# ---- a decode step -------------------------------------------------------------------------------


def steps(question: Question) -> list[float]:
    """Time of a step at each batch [s]."""
    return [step_seconds(question, batch) for batch in question["batches"]]


def step_seconds(question: Question, batch: int) -> float:
    result = cli_estimate(
        path(question),
        system(question),
        mode="static_gen",
        isl=question["context"],
        osl=2,
        batch_size=batch // question["data"],
        stride=1,
        **parallel(question),
    )
    return result.tpot * 1e-3


def parallel(question: Question) -> dict[str, int]:
    """Its parallel sizes; experts that are not spread over ranks are cut over all of them."""
    ranks = question["tensor"] * question["data"]
    return {
        "tp_size": question["tensor"],
        "attention_dp_size": question["data"],
        "moe_ep_size": question["expert"],
        "moe_tp_size": ranks // question["expert"],
    }


def many(question: Question) -> float:
    """Steps and memory of many batches, in one process [1/s]."""
    database = perf_database.get_database(system(question), "trtllm", latest(question))
    sizes = {"pp_size": 1, **parallel(question)}
    model = models.get_model(path(question), config.ModelConfig(**sizes), "trtllm")
    session = InferenceSession(model, database, get_backend("trtllm"))

    def step(index: int) -> object:
        runtime = config.RuntimeConfig(batch_size=1 + index, isl=question["context"], osl=2)
        return session.run_static(runtime, "static_gen", stride=1)

    return rate(step, question["count"])


def latest(question: Question) -> str:
    return perf_database.get_latest_database_version(system(question), "trtllm")


# ---- requests ------------------------------------------------------------------------------------


def best_ways(question: Question) -> Any:
    """The best way that it finds with one pool (`agg`) and with two (`disagg`)."""
    return cli_default(
        path(question),
        question["devices"],
        system(question),
        backend=question["stack"],
        isl=question["prompt"],
        osl=question["answer"],
        ttft=question["ttft_limit"] * 1e3,
        tpot=question["tpot_limit"] * 1e3,
        top_n=1,
    )


def search(question: Question) -> None:
    """The search alone, to be timed."""
    best_ways(question)


def requests(question: Question) -> dict[str, Any]:
    """What is best with one pool and with two, and the times behind it."""
    found = best_ways(question)
    rows = {way: table.iloc[0].to_dict() for way, table in found.best_configs.items()}
    task = found.tasks["disagg"]
    return {
        "one_pool": one_pool(question, rows["agg"]),
        "disaggregated": two_pools(question, rows["disagg"]),
        "corrections": {
            "step": task.decode_latency_correction,
            "forward": task.prefill_latency_correction,
            "writing": task.rate_match_decode_degradation,
            "reading": task.rate_match_prefill_degradation,
            "ttft": task.autoscale_ttft_correction_factor,
        },
    }


def one_pool(question: Question, row: dict[str, Any]) -> dict[str, Any]:
    layout = sizes(row, "")
    read = {**layout, "batch": int(row["ctx_tokens"]) // question["prompt"] or 1}
    return {**reached(row), **pools(question, layout, 1, read, 1)}


def two_pools(question: Question, row: dict[str, Any]) -> dict[str, Any]:
    write, read = sizes(row, "(d)"), sizes(row, "(p)")
    workers = int(row["(d)workers"]), int(row["(p)workers"])
    return {**reached(row), **pools(question, write, workers[0], read, workers[1])}


def reached(row: dict[str, Any]) -> dict[str, float]:
    return {
        "per_device": row["tokens/s/gpu"],
        "ttft_s": row["ttft"] * 1e-3,
        "tpot_s": row["tpot"] * 1e-3,
        "devices": int(row["num_total_gpus"]),
    }


def sizes(row: dict[str, Any], pool: str) -> dict[str, int]:
    """Of a replica."""
    return {name: int(row[pool + column]) for name, column in SIZES.items()}


def pools(
    question: Question, write: dict[str, int], writers: int, read: dict[str, int], readers: int
) -> dict[str, Any]:
    """Layouts, their replicas in a unit, and the times of a step and of a forward of prompts as its
    tables give them, before any correction [s].
    """
    return {
        "decode": {**write, "replicas": writers},
        "prefill": {**read, "replicas": readers},
        "step_s": alone(question, write, "static_gen").tpot * 1e-3,
        "forward_s": alone(question, read, "static_ctx").ttft * 1e-3,
    }


def alone(question: Question, layout: dict[str, int], mode: str) -> Any:
    return cli_estimate(
        path(question),
        system(question),
        mode=mode,
        backend_name=question["stack"],
        isl=question["prompt"],
        osl=question["answer"],
        batch_size=layout["batch"],
        pp_size=layout["pipeline"],
        **parallel(layout),
    )


def main() -> None:
    """Answer."""
    logging.disable(logging.WARNING)
    answer(steps=steps, many=many, search=search, requests=requests)
