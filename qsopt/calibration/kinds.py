"""From points to groups: fit every kind, check it on what was left out, and give every value its
interval.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from qsopt.calibration.fit import Fit
from qsopt.calibration.form import FORMS, Form
from qsopt.calibration.held_out import Checked, checked
from qsopt.calibration.points import Points
from qsopt.calibration.tables.wide_expert_parallel import WIDE
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import ACROSS, Group, Own, Values

DRAWS = 16
"""Bootstrap draws of shapes for the intervals."""

TARGETS = {
    "MoE layer, B <= 256, TensorRT-LLM bf16/fp8": ((7, 30), (10, 38), (14, 55)),
    "MoE layer, all": ((11, 42), (12, 44), (15, 58)),
    "GEMM with n*k >= 8e6": ((9, 28), (9, 25), (18, 72)),
    "GQA decode attention, ideal time > 10 us": ((11, 38), (12, 40), (18, 100)),
    "MLA decode attention": ((12, 38), (13, 40), (28, 90)),
    "collectives on one scale-up domain": ((13, 45), (17, 48), (22, 58)),
}
"""Median and 90th percentile [%] aimed at: on data that was fitted, on other shapes and models, on
other accelerators.
"""


def quantities(points: Points) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of each quantity that has any."""
    kind, label = points.labels.kind, points.labels
    wide, across = (np.char.endswith(label.backend, suffix) for suffix in (WIDE, ACROSS))
    plain = (
        (label.backend == "trtllm") & np.isin(label.dtype, ["bf16", "fp8"]) & (points.batch <= 256)
    )
    rows = {
        "MoE layer, B <= 256, TensorRT-LLM bf16/fp8": (kind == "experts") & plain,
        "MoE layer, all": (kind == "experts") & ~wide,
        "MoE layer of wide expert parallelism": (kind == "experts") & wide,
        "GEMM with n*k >= 8e6": (kind == "gemm") & (_weights(points) >= 8e6),
        "GEMM, all": kind == "gemm",
        "GQA decode attention, ideal time > 10 us": (kind == "attention") & (points.ideal > 10e-6),
        "GQA decode attention, all": kind == "attention",
        "MLA decode attention": kind == "mla",
        "collectives on one scale-up domain": kind == "collective",
        "expert dispatch and combine on one scale-up domain": (kind == "exchange") & ~across,
        "expert dispatch and combine across nodes": (kind == "exchange") & across,
    }
    return ((name, chosen) for name, chosen in rows.items() if chosen.any())


def _weights(points: Points) -> Column:
    """n k of a product, from its FLOPs."""
    return points.cost.flops / (2.0 * points.batch)


def calibrate(
    points: Points,
    forms: Mapping[str, Form] = FORMS,
    draws: int = DRAWS,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Group], dict[str, Checked]]:
    """Fit every kind that the points hold; `say` is told what comes next, as it takes minutes.

    Returns:
        The groups, and the predictions of every kind's rows.
    """
    found, all_groups = {}, []
    for kind, form in forms.items():
        rows = points.where(points.labels.kind == kind)
        if len(rows):
            say(
                f"fitting {kind}: {len(rows):,} rows, {len(np.unique(rows.labels.family))} families"
            )
            found[kind] = checked(rows, form, draws)
            all_groups += [
                _group(rows, found[kind], draws, place)
                for place in range(len(found[kind].fit.groups.families))
            ]
    return all_groups, found


def _group(points: Points, found: Checked, draws: int, place: int) -> Group:
    fit = found.fit
    rows = fit.groups.family == place
    kind, backend, dtype = fit.groups.families[place].split("/")

    def of(predicted: Column, rows: np.ndarray = rows) -> Errors:
        return errors(predicted[rows], points.seconds[rows])

    low, high = _interval(fit, place, draws)
    return Group(
        kind,
        backend,
        dtype,
        fit.values(place),
        low,
        high,
        of(found.fitted),
        of(found.other_shapes),
        of(found.other_accelerators),
        dict(_own(points, found, rows, place)),
    )


def _own(points: Points, found: Checked, rows: np.ndarray, place: int) -> Iterator[tuple[str, Own]]:
    for number, gpu in enumerate(found.fit.groups.accelerators):
        mine = rows & (found.fit.groups.accelerator == number)
        if mine.any():
            yield (
                gpu,
                Own(
                    found.fit.values(place, number),
                    errors(found.fitted[mine], points.seconds[mine]),
                ),
            )


def _interval(fit: Fit, place: int, draws: int) -> tuple[Values, Values]:
    """5th and 95th percentile of the pool over the bootstrap draws, the last sets of the fit."""
    sets = range(len(fit.log_seconds) - draws, len(fit.log_seconds)) if draws else [0]
    values = [fit.values(place, chosen=chosen) for chosen in sets]
    ends = [
        {name: float(np.quantile([one[name] for one in values], q)) for name in values[0]}
        for q in (0.05, 0.95)
    ]
    return ends[0], ends[1]
