"""What GenZ (https://github.com/abhibambhaniya/GenZ-LLM-Analyzer) answers: a roofline of every
operator.

It has no H200, and of DeepSeek-V3 no latent attention (it is grouped attention of two key-value
heads there), so it is asked about neither.
"""

# pyright: reportMissingImports=false

import warnings

from GenZ import decode_moddeling

from experiments.peers.probes.probe import Question, answer, rate

NAMES = {"mixtral-8x7b": "mistralai/Mixtral-8x7B"}
SYSTEMS = {"h100": "H100_GPU"}


def steps(question: Question) -> list[float] | None:
    """Time of a step at each batch [s]; None of what it does not know."""
    if question["model"] not in NAMES or question["accelerator"] not in SYSTEMS:
        return None
    return [step_seconds(question, batch) for batch in question["batches"]]


def step_seconds(question: Question, batch: int) -> float:
    result = decode_moddeling(
        model=NAMES[question["model"]],
        batch_size=batch,
        input_tokens=question["context"],
        output_tokens=0,
        Bb=1,
        system_name=SYSTEMS[question["accelerator"]],
        bits="bf16",
        tensor_parallel=question["tensor"],
    )
    return result["Latency"] * 1e-3


def many(question: Question) -> float:
    """Steps of many batches, in one process [1/s]."""
    return rate(lambda index: step_seconds(question, 1 + index), question["count"])


def main() -> None:
    """Answer."""
    warnings.simplefilter("ignore")
    answer(steps=steps, many=many)
