"""What servers keep in memory beside weights and cache, fitted to what they print at their start.

Reserve and buffers of collectives are fitted for each software with rows; what software does by its
own documentation is taken from there. Errors in bytes are fitted, as what is missing in a log
(version, connector, flags) adds a gigabyte or two whatever the room, and count less where large.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from scipy.optimize import least_squares

from qsopt.calibration.tables.memory import Started, batches
from qsopt.files import write_text
from qsopt.fitted.errors import Column, errors
from qsopt.fitted.groups import digits, errors_list
from qsopt.fitted.memory import COLUMNS, POOLED, RESERVE, ROOM, SPECIAL, MemoryFit
from qsopt.fitted.spread import INTERVALS, LEVELS, MIDDLE, Quantiles
from qsopt.units import GiB

CHECKED_ONLY = ("gb300", "l40s", "mi300x", "rtx-pro-6000")
"""Accelerators that no fit sees: they check it."""

_LOGIT = {"logit_bytes": 18.0}
"""Sampling holds logits as they were computed (2 bytes), in float32 (4), and their sorted values
(4) and places (8).
"""

_FIRST_FORWARD = {
    "prompt_tokens": 8192.0,
    "sequences": 1024.0,
    "large_memory_GiB": 70.0,
    "small_share": 0.25,
}
"""vLLM's defaults of a server: max_num_batched_tokens and max_num_seqs, and devices that get a
quarter of both (EngineArgs of docs.vllm.ai).
"""

_TILES = {"hidden_multiple": {"mxfp4": 256.0}, "width_multiple": {"mxfp4": 128.0}}
"""Of the Marlin kernel of mxfp4 experts (vLLM, `mxfp4_round_up_hidden_size_and_intermediate_size`).
"""

_VLLM_ON = {
    "a100-40gb": {"prompt_tokens": 2048.0, "sequences": 256.0, "small_share": 1.0},
    "a100-80gb": {"prompt_tokens": 2048.0, "sequences": 256.0},
    "amd": {"pad_bytes": 256.0, "width_multiple": {"mxfp4": 256.0}},
}
"""vLLM gives A100 the defaults of small devices, and on AMD pads rows of bf16 experts (pull request
14454) and rounds columns up further (pull request 56359).
"""

DOCUMENTED: dict[str, dict[str, Any]] = {
    POOLED: {**_FIRST_FORWARD, **_LOGIT, "whole_tables": 1.0, **_TILES},
    "vllm": {**_FIRST_FORWARD, **_LOGIT, "whole_tables": 1.0, **_TILES, SPECIAL: _VLLM_ON},
    "sglang": {"prompt_tokens": 8192.0, **_LOGIT, "whole_tables": 1.0, "pool_only": 1.0},
    "trtllm": {"prompt_tokens": 8192.0, **_LOGIT, "whole_tables": 1.0, "of_free": 1.0},
}
"""What is known of each software without a fit."""

_LIKE = {POOLED: "vllm", "trtllm": "vllm"}
"""Whose fitted constants stand for software without rows."""

_FITTED = ("vllm", "sglang")

_LEAST_ROWS = 3
"""Software with fewer rows takes the constants of another."""

_START, _HIGHEST = (1.0, 1.0), (16.0, 8.0)
"""Reserve, and buffers for each doubling of devices [GiB]."""

_ROBUST = 0.5
"""Error of the room above which a row counts less [GiB]."""


def fit_memory(started: Started) -> MemoryFit:
    """Constants of all software, from the rows whose room is known on accelerators that a fit may
    see.
    """
    return _Rows(started).fit(_fitted_rows(started))


def _fitted_rows(started: Started) -> np.ndarray:
    return np.isfinite(started.room) & ~np.isin(started.gpu, CHECKED_ONLY)


class _Rows:
    """Rows of a table, and their room under any constants."""

    def __init__(self, started: Started) -> None:
        self.started, self.batches = started, batches(started)
        counts = {
            name: int(np.sum(_fitted_rows(started) & (started.software == name)))
            for name in _FITTED
        }
        self.present = [name for name in _FITTED if counts[name] >= _LEAST_ROWS]
        likes = [_LIKE.get(name, name) for name in map(str, started.software)]
        self.group = np.array(
            [self.present.index(name) if name in self.present else 0 for name in likes], dtype=int
        )

    def room(self, constants: np.ndarray) -> Column:
        """By reserve and communication of each software [GiB]."""
        pairs = constants.reshape(-1, len(_START))[self.group] * GiB
        return self.batches.with_memory(pairs[:, 0], pairs[:, 1]).parts()[1]

    def constants(self, seen: np.ndarray) -> np.ndarray:
        """The best for some rows."""
        measured = self.started.room

        def residual(constants: np.ndarray) -> np.ndarray:
            return (self.room(constants) - measured)[seen] / GiB

        start, highest = (np.array([*each * len(self.present)]) for each in (_START, _HIGHEST))
        return least_squares(
            residual,
            start,
            bounds=(np.zeros_like(start), highest),
            loss="soft_l1",
            f_scale=_ROBUST,
            diff_step=1e-3,
        ).x

    def fit(self, seen: np.ndarray) -> MemoryFit:
        """The best for some rows, by software."""
        pairs = self.constants(seen).reshape(-1, len(_START))
        return _fit_of(dict(zip(self.present, pairs, strict=True)))


def _fit_of(constants: Mapping[str, np.ndarray]) -> MemoryFit:
    tables = deepcopy(DOCUMENTED)
    first = next(iter(constants), None)
    for name, table in tables.items():
        source = name if name in constants else _LIKE.get(name, first or "")
        reserve, communication = constants.get(source, constants.get(first or "", _START))
        table |= {
            RESERVE: digits(float(reserve)),
            "communication_GiB": digits(float(communication)),
        }
    return MemoryFit(tables)


def check_memory(started: Started) -> tuple[MemoryFit, dict[str, Column]]:
    """The fit to all rows that a fit may see, with its errors and spread, and the room of every row
    by fits that saw it, and that did not see its model.
    """
    table, rows = _Rows(started), _fitted_rows(started)
    seen = table.room(table.constants(rows))
    unseen = np.array(seen)
    for name in np.unique(started.model[rows]):
        mine = started.model == name
        unseen[mine] = table.room(table.constants(rows & ~mine))[mine]
    models = tuple(sorted(set(map(str, started.model[rows]))))
    room = room_quantiles(seen[rows], unseen[rows], started.room[rows], len(models))
    fit = replace(table.fit(rows), room=room, models=models)
    left = unseen[rows] - started.room[rows]
    spread = _NORMAL * float(np.median(np.abs(left - np.median(left)))) / GiB
    for table in fit.tables.values():
        table["spread_GiB"] = digits(spread)
    columns = {"fitted": seen, "other_models": unseen}
    fit.errors.update(
        {name: errors(column[rows], started.room[rows]) for name, column in columns.items()}
    )
    return fit, columns


def room_quantiles(
    seen: Column, unseen: Column, measured: Column, models: int
) -> dict[str, Quantiles]:
    """Quantiles of the measured less the predicted room, by fits that saw the row, and that did not
    see its model: those moved away from their median by sqrt(1 + 1/models), and nowhere narrower
    than the others [byte].
    """
    known, other = (np.quantile(measured - room, LEVELS) for room in (seen, unseen))
    other = other[MIDDLE] + np.sqrt(1.0 + 1.0 / models) * (other - other[MIDDLE])
    lower, upper = np.minimum(known, other), np.maximum(known, other)
    wide = np.concatenate([lower[:MIDDLE], other[[MIDDLE]], upper[MIDDLE + 1 :]])
    return dict(zip(COLUMNS, (known, wide), strict=True))


def room_coverage(unseen: Column, started: Started) -> dict[str, Any]:
    """Shares of rows whose room lies inside intervals made of rows of other models.

    Args:
        unseen: room of every row by fits that did not see its model [byte].
        started: what was measured.
    """
    rows = np.flatnonzero(_fitted_rows(started))
    models, measured, guess = (one[rows] for one in (started.model, started.room, unseen))
    inside = {name: np.zeros(len(rows), dtype=bool) for name in INTERVALS}
    for model in np.unique(models):
        mine = models == model
        others, count = guess[~mine], len(np.unique(models[~mine]))
        quantiles = room_quantiles(others, others, measured[~mine], count)[COLUMNS[1]]
        off = (measured - guess)[mine]
        for name, (low, high) in INTERVALS.items():
            inside[name][mine] = (off >= quantiles[low]) & (off <= quantiles[high])
    groups = {str(one): float(inside["80"][models == one].mean()) for one in np.unique(models)}
    shares = {f"coverage{name}": float(one.mean()) for name, one in inside.items()}
    return {"n": len(rows), **shares, "groups": groups}


_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def save_memory(fit: MemoryFit, source: str, day: str, path: Path) -> None:
    """Write the constants with their errors.

    Raises:
        InputError: if the file cannot be written.
    """
    document = tomlkit.document()
    for line in (
        "What a server's memory holds beside weights and cache, as `spec.server_memory` says.",
        "reserve, communication and spread are fitted, the rest is documented by the software.",
        "Written by `qsopt calibrate`. Lists of errors are [rows, median, 90th",
        "percentile, signed median] of the relative error of the room for the cache.",
    ):
        document.add(tomlkit.comment(line))
    document.add("source", source)
    document.add("date", tomlkit.date(day))
    for name, table in fit.tables.items():
        document.add(name, table)
    document.add("errors", {name: errors_list(left) for name, left in fit.errors.items()})
    room = tomlkit.table()
    room.add(tomlkit.comment("Quantiles of the measured less the predicted room [GiB]."))
    room.add("levels", list(LEVELS))
    room.add("models", list(fit.models))
    for name, quantiles in fit.room.items():
        room.add(name, [round(float(value) / GiB, 3) for value in quantiles])
    document.add(ROOM, room)
    write_text(path, tomlkit.dumps(document))


def memory_errors(fit: MemoryFit) -> list[dict[str, Any]]:
    """Errors of the room, one record for each of who saw the rows."""
    return [
        {"of": "room for the cache", "rows_seen_by": name, **left._asdict()}
        for name, left in fit.errors.items()
    ]
