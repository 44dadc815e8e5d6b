"""What ridgepoint (https://pypi.org/project/ridgepoint/) answers: tokens/s of one request alone, in
memory and capacity what fits. It has no batch of its own.
"""

# pyright: reportMissingImports=false

import json

import ridgepoint

from experiments.peers.probes.probe import Question, answer, rate

NAMES = {"mixtral-8x7b": ("mixtral-8x7b", "fp16"), "deepseek-v3": ("deepseek-r1", "fp8")}
"""Its name of a model of these shapes, and of the format."""
SYSTEMS = {"h100": "h100-80gb", "h200": "h200-141gb"}


def steps(question: Question) -> list[float | None] | None:
    """Time of a step at each batch [s]; None above one sequence, and of what it does not know."""
    if question["model"] not in NAMES:
        return None
    alone = 1.0 / fitted(question, question["context"])["speed"]["decode_tok_s"]["best"]
    return [alone if batch == 1 else None for batch in question["batches"]]


def fitted(question: Question, context: int) -> dict:
    model, dtype = NAMES[question["model"]]
    text = ridgepoint.fit(
        model,
        SYSTEMS[question["accelerator"]],
        count=question["tensor"] * question["data"],
        dtype=dtype,
        ctx=context,
        as_json=True,
    )
    return json.loads(text)


def many(question: Question) -> float:
    """Fits of many contexts, in one process [1/s]."""
    return rate(lambda index: fitted(question, 1024 + index), question["count"])


def main() -> None:
    """Answer."""
    answer(steps=steps, many=many)
