"""Which fitted group stands for an operator of an efficiency set where several could: by format, by
software, and by how it carries over to other accelerators.
"""

from collections.abc import Callable

import numpy as np

from qsopt.catalog.accelerators import hardware_facts
from qsopt.fitted.groups import ACROSS, Calibration, FittedGroup

_NEAREST = {
    "fp8": "fp8_block",
    "fp8_block": "fp8",
    "mxfp4": "int4",
    "int4": "mxfp4",
    "int8": "fp8",
    "nvfp4": "fp8",
}
"""The format whose values stand in where nobody measured a format; bf16 if that one is missing too.
"""

_IN_FP8 = {"mxfp4": "w4a8_mxfp4_mxfp8"}
"""What tables call a format where an accelerator computes it in fp8, as Blackwell does with mxfp4:
a kernel of its own (trtllm-gen), which TensorRT-LLM, SGLang and vLLM with FlashInfer run alike.
"""

PAIR = ("gemm", "experts")
"""Kinds that a comparison of an MoE with a dense model sets against each other."""

Choice = Callable[[list[FittedGroup]], FittedGroup]
"""Which of several groups of one kind and format is taken."""


def most_transferable(groups: list[FittedGroup]) -> FittedGroup:
    """The group whose pool predicts generations of accelerators that it has not seen best."""
    return min(groups, key=_held_out)


def best_pool(calibration: Calibration) -> Choice:
    """The group that carries over best; products and experts of a format from one software that has
    both, if any has.

    A comparison of an MoE with a dense model is one of experts with products: it should not be one
    of software with software.
    """

    def choice(groups: list[FittedGroup]) -> FittedGroup:
        def score(group: FittedGroup) -> tuple[int, float]:
            both = [
                one
                for one in calibration.groups
                if one.kind in PAIR and (one.backend, one.dtype) == (group.backend, group.dtype)
            ]
            return -len(both), sum(map(_held_out, both))

        return min(groups, key=score) if groups[0].kind in PAIR else most_transferable(groups)

    return choice


def _held_out(group: FittedGroup) -> float:
    return float(np.nan_to_num(group.other_generations.median, nan=np.inf))


def of_backend(backend: str) -> Choice:
    """The group of a software, or, where it has none, the one that carries over best."""
    return lambda groups: next(
        (group for group in groups if group.backend == backend), most_transferable(groups)
    )


def representative(
    calibration: Calibration,
    kind: str,
    number_format: str,
    choice: Choice,
    accelerator: str | None = None,
) -> FittedGroup | None:
    """The group that stands for a kind and format: of the format, else of the nearest, else of
    bf16; None without any.

    Kernels for special ways, whose names have a dash (wide expert parallelism), are left out.

    Args:
        calibration: groups.
        kind: of an operator.
        number_format: name of the package's format.
        choice: which of several is taken.
        accelerator: name of the catalog, which may compute the format in its own way; None for any.
    """
    own = _name_on(accelerator, number_format)
    for name in (own, number_format, _NEAREST.get(number_format, "bf16"), "bf16"):
        groups = [
            group
            for group in calibration.groups
            if (group.kind, group.dtype) == (kind, name) and "-" not in group.backend
        ]
        if groups:
            return choice(groups)
    return None


def _name_on(accelerator: str | None, number_format: str) -> str:
    """What tables call a format on an accelerator."""
    if number_format not in _IN_FP8 or accelerator is None:
        return number_format
    computed = hardware_facts(accelerator).mxfp4_arithmetic
    return _IN_FP8[number_format] if computed == "fp8" else number_format


def link_groups(calibration: Calibration, tier: str, backend: str | None) -> list[FittedGroup]:
    """The groups behind a tier: all-reduce kernels launched from a graph, or low-latency dispatch
    and combine, one for each.

    Args:
        calibration: groups.
        tier: of `TIERS`.
        backend: whose they are; if None, or if it has none, of the software that carries over best,
            or, for dispatch and combine, of the one whose small messages are quickest: other tables
            hold times with launches from the host.
    """
    if tier == "scale_up":
        all_reduces = [
            group
            for group in calibration.groups
            if (group.kind, group.dtype) == ("collective", "custom")
            and not group.backend.endswith("-eager")
        ]
        return [of_backend(f"custom-{backend}")(all_reduces)] if all_reduces else []
    low_latency = "deepep-ll" + (ACROSS if tier == "dispatch_out" else "")
    exchanges = [
        group
        for group in calibration.groups
        if group.kind == "exchange"
        and group.dtype in ("dispatch", "combine")
        and group.backend.endswith(low_latency)
    ]
    own = [group for group in exchanges if backend and group.backend.startswith(backend)]
    if own or not exchanges:
        return own
    quickest = min(exchanges, key=lambda group: group.pool["launch"])
    return [group for group in exchanges if group.backend == quickest.backend]
