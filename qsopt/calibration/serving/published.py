"""Published throughputs as end-to-end results: output tokens per second and device, at the batch
that the source used.

Sources that kept a static batch state it. Those at maximum load do not: their scheduler admits what
the memory holds, so the batch is the largest that fits at the mean context, and the error of that
guess is part of theirs. Rates of reading prompts, ratios of two runs, and rows without the lengths
of input and output cannot be used and are counted.
"""

import numpy as np

from qsopt.calibration.serving.runs import Runs, runs_of
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.fitted.groups import Calibration

STATIC = "tokens/s/device, stated batch"
FULL = "tokens/s/device, batch that fills the memory"

_PER_DEVICE = {"out_tok_s_per_gpu": 1.0, "out_tok_s_per_8gpu_node": 1.0 / 8.0}
"""Metrics and what makes output tokens per second and device of them; a total is shared by all
devices.
"""

_BACKENDS = {"tensorrt": "trtllm", "lmsys": "sglang", "sglang": "sglang", "vllm": "vllm"}
"""Software by what a source is called."""


def read_published(table: Table, calibration: Calibration, skipped: Skipped) -> dict[str, Runs]:
    """Results by what is compared; a quantity without rows is left out.

    Raises:
        InputError: if a column that is needed is missing.
    """
    table = _decoding(table, skipped)
    devices = table.number("n_gpus")
    share = np.array([_PER_DEVICE.get(str(name), 0.0) for name in table.text("metric")])
    rate = table.number("value") * np.where(
        share > 0.0, share, 1.0 / np.where(devices > 0.0, devices, np.nan)
    )
    batch = table.columns.get("batch", np.full(len(table), ""))
    columns = {
        "concurrency": batch,
        "out_tok_s_gpu_measured": rate.astype(str),
        "backend": _backend(table),
    }
    whole = Table(table.file, {**table.columns, **columns})
    stated = np.isfinite(whole.number("concurrency"))
    found = {
        name: runs_of(whole.where(rows), calibration, skipped)
        for name, rows in ((STATIC, stated), (FULL, ~stated))
        if rows.any()
    }
    return {name: runs for name, runs in found.items() if len(runs.step)}


def _decoding(table: Table, skipped: Skipped) -> Table:
    """Rates of output tokens; other metrics are counted by their name."""
    metric, value = table.text("metric"), table.number("value")
    rate = np.isin(metric, ["out_tok_s_total", *_PER_DEVICE])
    for name in np.unique(metric[~rate]):
        skipped.add(table.file, f"{name} is no rate of output tokens", int(np.sum(metric == name)))
    lengths = np.isfinite(table.number("isl")) & np.isfinite(table.number("osl"))
    skipped.add(table.file, "output or input length not stated", int(np.sum(rate & ~lengths)))
    positive = np.isfinite(value) & (value > 0.0)
    skipped.add(table.file, "no rate", int(np.sum(rate & lengths & ~positive)))
    return table.where(rate & lengths & positive)


def _backend(table: Table) -> np.ndarray:
    sources = table.columns.get("source", np.full(len(table), ""))
    if "backend" in table.columns:
        return table.text("backend")
    named = [
        next((name for key, name in _BACKENDS.items() if key in str(source).lower()), "unknown")
        for source in sources
    ]
    return np.array(named, dtype=str)
