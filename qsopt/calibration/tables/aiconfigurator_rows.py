"""Which rows of a table of `aiconfigurator-core` count, and the work of those with routed experts.

Of products, attention and MoE layers a sample of shapes is taken, the same on every accelerator and
chosen by a checksum of the shape alone. Repeats of an MoE layer, each with its own routing, count
by their mean; of several kernels at a point the fastest counts, as a server picks it. What is left
out so is counted as skipped.
"""

from zlib import crc32

import numpy as np
from jaxtyping import Bool

from qsopt.calibration.tables.aiconfigurator_columns import Source
from qsopt.calibration.tables.aiconfigurator_routing import routed
from qsopt.calibration.tables.columns import Skipped, Table

_EARLY_RULE = "wideep_compute"
"""Kernels whose tables were measured with the earlier rule for rows that rounding leaves."""


def counted(table: Table, source: Source, shapes: int, skipped: Skipped) -> Table:
    """Sampled, with the fastest kernel of each point, the name of an implementation, and the work
    of MoE layers.
    """
    if source.series:
        table = _only(table, _sampled(table, source, shapes), "a shape out of the sample", skipped)
    if "op" in table.columns:
        table = _with(table, impl=np.char.add(table.text("impl"), table.text("kernel")))
    elif "phase" in table.columns:
        table = _with(
            table, impl=np.char.add(np.char.add(table.text("impl"), "_"), table.text("kernel"))
        )
    routes = "num_tokens" in table.columns
    table = _averaged(table, skipped) if routes else table
    table = _only(table, _fastest(table), "a slower kernel of the same point", skipped)
    return routed_rows(table, skipped) if routes else table


def _sampled(table: Table, source: Source, shapes: int) -> Bool[np.ndarray, " rows"]:
    """Rows of the first `shapes` series of each group in the order of their checksums."""
    keep = np.zeros(len(table), dtype=bool)
    series, group = (_joined(table, names) for names in (source.series, source.group))
    order = {name: crc32(name.encode()) for name in np.unique(series)}
    for one in np.unique(group):
        here = group == one
        taken = sorted(np.unique(series[here]), key=lambda name: order[name])[:shapes]
        keep |= here & np.isin(series, taken)
    return keep


def _averaged(table: Table, skipped: Skipped) -> Table:
    """One row for every kernel at a point: repeats, each with a routing drawn anew, count by their
    mean.
    """
    time = _time(table)
    same = _joined(table, tuple(name for name in table.columns if name != time))
    _, first, places = np.unique(same, return_index=True, return_inverse=True)
    mean = np.bincount(places, table.number(time)) / np.bincount(places)
    keep = np.zeros(len(table), dtype=bool)
    keep[first] = True
    return _only(
        _with(table, **{time: mean[places].astype(str)}),
        keep,
        "a repeat of a measurement, averaged",
        skipped,
    )


def _fastest(table: Table) -> Bool[np.ndarray, " rows"]:
    """The fastest kernel, and number of processors that send, of each point."""
    time = _time(table)
    point = _joined(
        table, tuple(name for name in table.columns if name not in (time, "kernel", "sms"))
    )
    order = np.lexsort((table.number(time), point))
    keep = np.zeros(len(table), dtype=bool)
    keep[order[np.append(True, point[order][1:] != point[order][:-1])]] = True
    return keep


def _time(table: Table) -> str:
    return "latency_ms" if "latency_ms" in table.columns else "latency_us"


def routed_rows(table: Table, skipped: Skipped) -> Table:
    """The same rows with `uniq_local`, `rows_local` and `max_rows` by the routing that their
    distribution names.

    Rows of a distribution without a rule are counted as skipped.
    """
    columns = [table.number(name) for name in ("num_tokens", "num_experts", "topk", "moe_ep")]
    slots = (
        np.nan_to_num(table.number("num_slots"))
        if "num_slots" in table.columns
        else np.zeros(len(table))
    )
    kernels = table.columns.get("kernel", np.full(len(table), ""))
    early = np.char.startswith(kernels, _EARLY_RULE)
    sound = np.all(np.isfinite(columns) & (np.array(columns) >= 1), axis=0)
    rows = np.nan_to_num(np.array([*columns, slots, early])).astype(int).T.tolist()
    work = [
        routed(str(name), *row) if fine else None
        for name, row, fine in zip(table.text("distribution"), rows, sound, strict=True)
    ]
    known = np.array([one is not None for one in work], dtype=bool)
    table = _only(table, known, "a distribution of tokens without a rule", skipped)
    found = [one for one in work if one is not None]
    names = ("uniq_local", "rows_local", "max_rows")
    return _with(
        table,
        **{
            name: np.array([f"{one[place]:.6g}" for one in found])
            for place, name in enumerate(names)
        },
    )


def _joined(table: Table, names: tuple[str, ...]) -> np.ndarray:
    return np.array(
        ["|".join(row) for row in zip(*(table.text(name) for name in names), strict=True)],
        dtype=str,
    )


def _with(table: Table, **columns: np.ndarray) -> Table:
    return Table(table.file, {**table.columns, **columns})


def _only(table: Table, keep: Bool[np.ndarray, " rows"], reason: str, skipped: Skipped) -> Table:
    skipped.add(table.file, reason, int(np.sum(~keep)))
    return table.where(keep)
