"""The quantities whose errors are reported: rows of one kind that mean the same to a reader, with
the errors aimed at. Products and MoE layers of prompts are quantities of their own.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from qsopt.calibration.points import OperatorPoints, Points
from qsopt.calibration.tables.wide_expert_parallel import WIDE
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import ACROSS

Rows = Bool[np.ndarray, " rows"]

Target = tuple[tuple[int, int], tuple[int, int], tuple[int, int] | None]
"""Median and 90th percentile [%] aimed at: on data that was fitted, on other shapes and models, on
other accelerators.
"""


class Quantity(NamedTuple):
    """Rows of one kind."""

    name: str
    kind: str
    rows: Callable[[Any], Rows]
    """Which of the points of that kind."""
    target: Target | None = None


PROMPTS = 8192
"""Tokens of a forward pass from which on products and MoE layers count as those of prompts."""


def _all(points: Points) -> Rows:
    return np.ones(len(points), dtype=bool)


def _of_prompts(points: OperatorPoints) -> Rows:
    return (points.tokens >= PROMPTS) & ~np.char.endswith(points.labels.backend, WIDE)


def _of_decode(points: OperatorPoints) -> Rows:
    return (points.tokens < PROMPTS) & ~np.char.endswith(points.labels.backend, WIDE)


def _backend_ends(suffix: str, wanted: bool = True) -> Callable[[Points], Rows]:
    return lambda points: np.char.endswith(points.labels.backend, suffix) == wanted


def _plain_moe(points: OperatorPoints) -> Rows:
    label = points.labels
    plain = (label.backend == "trtllm") & np.isin(label.dtype, ["bf16", "fp8"])
    return plain & (points.tokens <= 256)


def _weights(points: OperatorPoints) -> Column:
    """n k of a product, from its FLOPs."""
    return points.cost.flops / (2.0 * points.rows)


QUANTITIES = (
    Quantity(
        "MoE layer, B <= 256, TensorRT-LLM bf16/fp8",
        "experts",
        _plain_moe,
        ((7, 30), (10, 38), (14, 55)),
    ),
    Quantity("MoE layer, all", "experts", _of_decode, ((11, 42), (12, 44), (15, 58))),
    Quantity("MoE layer of wide expert parallelism", "experts", _backend_ends(WIDE)),
    Quantity(
        "GEMM with n*k >= 8e6",
        "gemm",
        lambda points: _of_decode(points) & (_weights(points) >= 8e6),
        ((9, 28), (9, 25), (18, 72)),
    ),
    Quantity("GEMM, all", "gemm", _of_decode),
    Quantity(
        "GQA decode attention, ideal time > 10 us",
        "attention",
        lambda points: points.ideal > 10e-6,
        ((11, 38), (12, 40), (18, 100)),
    ),
    Quantity("GQA decode attention, all", "attention", _all),
    Quantity("MLA decode attention", "mla", _all, ((12, 38), (13, 40), (28, 90))),
    Quantity("prefill attention", "prefill_attention", _all, ((14, 45), (14, 45), None)),
    Quantity("prefill mla", "prefill_mla", _all, ((14, 45), (14, 45), None)),
    Quantity("prefill gemm", "gemm", _of_prompts, ((11, 45), (11, 45), None)),
    Quantity("prefill moe", "experts", _of_prompts, ((14, 48), (14, 48), None)),
    Quantity(
        "collectives on one scale-up domain",
        "collective",
        _all,
        ((13, 45), (17, 48), (22, 58)),
    ),
    Quantity(
        "expert dispatch and combine on one scale-up domain",
        "exchange",
        _backend_ends(ACROSS, False),
    ),
    Quantity("expert dispatch and combine across nodes", "exchange", _backend_ends(ACROSS)),
)


def quantities(points: Mapping[str, Points]) -> Iterator[tuple[Quantity, Rows]]:
    """The quantities that have any rows, each with which of its kind's points they are.

    Args:
        points: by kind.
    """
    for quantity in QUANTITIES:
        if quantity.kind in points:
            rows = quantity.rows(points[quantity.kind])
            if rows.any():
                yield quantity, rows
