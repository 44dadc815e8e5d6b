"""The axes of a map: the words and the unit of each, and where its ticks stand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from qsopt.report.plot import tokens_text
from qsopt.units import GB, MILLISECOND, TB

MOST_TICKS = 6


@dataclass(frozen=True)
class Form:
    """How an axis is told."""

    label: str
    unit: float = 1.0
    """The label's unit in SI."""
    base: int = 2
    """Ticks are powers of 2, or 1, 2 and 5 times powers of 10."""
    text: Callable[..., str] = lambda value, _=None: f"{value:g}"


FORMS = {
    "context": Form("context length [tokens]", text=tokens_text),
    "batch": Form("sequences decoding at once in the cluster", text=tokens_text),
    "devices": Form("devices"),
    "bandwidth": Form("memory bandwidth [TB/s]", TB, 10),
    "capacity": Form("memory per device [GB]", GB, 10),
    "scale_up": Form("links inside the domain [GB/s]", GB, 10),
    "scale_out": Form("links between domains [GB/s]", GB, 10),
    "domain": Form("devices of a scale-up domain"),
    "sparsity": Form("s, active over total parameters", base=10),
    "q": Form("q, dense twin over active parameters", base=10),
    "tpot": Form("longest time per token [ms]", MILLISECOND, 10),
    "prompt": Form("prompt [tokens]", text=tokens_text),
    "answer": Form("answer [tokens]", text=tokens_text),
    "cached": Form("share of the prompt that is cached", base=10),
    "ttft": Form("longest time to first token [ms]", MILLISECOND, 10),
    "load": Form("load of what reads prompts", base=10),
    "acceptance": Form("acceptance of a drafted token", base=10),
}


def axis_label(name: str) -> str:
    """Words and unit of an axis."""
    return FORMS[name].label


def axis_unit(name: str) -> float:
    """The unit of an axis' label in SI."""
    return FORMS[name].unit


def ticks(low: float, high: float, base: int) -> list[float]:
    """At most `MOST_TICKS` round values between two ends."""
    if base == 2:
        powers = np.arange(np.ceil(np.log2(low) - 1e-9), np.floor(np.log2(high) + 1e-9) + 1)
        return [2.0**power for power in powers[:: -(-len(powers) // MOST_TICKS)]]
    tens = [10.0**power for power in range(-6, 16)]
    for leads in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [
            lead * ten
            for ten in tens
            for lead in leads
            if low * 0.999 <= lead * ten <= high * 1.001
        ]
        if len(found) <= MOST_TICKS:
            break
    return found  # pyright: ignore[reportPossiblyUnboundVariable]


def set_ticks(axis: Axis, values: Float[np.ndarray, " n"], form: Form) -> None:
    """Round ticks for values in the label's unit."""
    axis.set_major_locator(FixedLocator(ticks(values[0], values[-1], form.base)))
    axis.set_major_formatter(FuncFormatter(form.text))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def cell_edges(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " edges"]:
    """Borders of cells around values, in the middle in log."""
    logs = np.log(values)
    middle = (logs[1:] + logs[:-1]) / 2.0
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))
