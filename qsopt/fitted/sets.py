"""Efficiency sets from fitted groups: the values of one software, or pools that carry over best to
other accelerators.

For linear attention, where nothing was measured, stand the values of decode attention.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import tomlkit

from qsopt.catalog.folder import configs
from qsopt.files import write_text
from qsopt.fitted.choices import best_pool, link_groups, of_backend, representative
from qsopt.fitted.groups import Calibration, Values, digits, inline
from qsopt.fitted.memory import memory_fit
from qsopt.fitted.parameters import DEFAULTS, OPERATOR
from qsopt.spec.efficiency import Efficiency, LinkEfficiency, OperatorEfficiency
from qsopt.spec.formats import FORMATS
from qsopt.units import MICROSECOND

KINDS = {
    "gemm": "gemm",
    "experts": "experts",
    "attention": "attention",
    "mla": "mla",
    "linear": "attention",
    "prefill_attention": "prefill_attention",
    "prefill_mla": "prefill_mla",
}
"""Which fitted kind each kind of a set takes its values from."""

TIERS = ("scale_up", "dispatch_up", "dispatch_out")
"""Tiers of links that are fitted."""

DOMAIN = 8.0
"""Devices of a domain where exchanges between domains were measured."""


def efficiency(
    calibration: Calibration, backend: str | None, gpu: str | None, base: Efficiency
) -> Efficiency:
    """An efficiency set with fitted values, and what operators do not tell from `base`.

    Args:
        calibration: groups.
        backend: software whose values are taken where it has any; those of `best_pool` if None.
        gpu: accelerator whose own values are taken where there are any, else those of its
            generation; the pool's if None.
        base: links between domains and routing; also memory if there is no backend.
    """
    choice = best_pool(calibration) if backend is None else of_backend(backend)

    def operator(kind: str) -> OperatorEfficiency | None:
        groups = [representative(calibration, kind, name, choice, gpu) for name in FORMATS]
        rows = [_complete(group.values(gpu)) for group in groups if group is not None]
        if not rows:
            return None
        return OperatorEfficiency(*(np.array([row[name] for row in rows]) for name in OPERATOR))

    parts: dict[str, OperatorEfficiency | LinkEfficiency | None] = {
        name: operator(kind) for name, kind in KINDS.items()
    }
    links = {
        tier: _link([group.values(gpu) for group in link_groups(calibration, tier, backend)])
        for tier in TIERS
    }
    parts |= {**links, "dispatch_out": _beyond(links["dispatch_out"], links["dispatch_up"])}
    fitted = {name: part for name, part in parts.items() if part is not None}
    if fitted:
        leaves = list(fitted.values())
        base = eqx.tree_at(lambda e: [getattr(e, name) for name in fitted], base, leaves)
    return base if backend is None else memory_fit().applied(base, backend, gpu)


def _complete(values: Values) -> Values:
    return {**DEFAULTS, **values}


def _link(rows: list[Values]) -> LinkEfficiency | None:
    """One tier of links; the mean over the ways, as dispatch and combine are charged alike."""
    if not rows:
        return None
    mean = {
        name: float(np.mean([_complete(row)[name] for row in rows]))
        for name in ("launch", "step", "ramp")
    }
    bandwidth = 1.0 / float(np.mean([1.0 / row["bandwidth"] for row in rows]))
    return LinkEfficiency(bandwidth, mean["launch"], mean["step"], mean["ramp"])


def _beyond(across: LinkEfficiency | None, inside: LinkEfficiency | None) -> LinkEfficiency | None:
    """What domains add to an exchange: it was measured whole, and the decode model adds the latency
    of both tiers.
    """
    if across is None or inside is None:
        return None
    own = inside.collective + (DOMAIN - 1.0) * inside.step
    return eqx.tree_at(lambda link: link.collective, across, max(across.collective - own, 0.0))


def save_set(efficiency: Efficiency, about: Mapping[str, str], path: Path) -> None:
    """Write an efficiency set: the fitted values, and all that is not fitted as the shipped set has
    it, with its comments.

    Args:
        efficiency: the set.
        about: its name, version, date (YYYY-MM-DD), source and note.
        path: file to write.

    Raises:
        InputError: if it cannot be written.
    """
    document = tomlkit.parse(shipped_set().read_text(encoding="utf-8"))
    document.update({**about, "date": date.fromisoformat(about["date"])})
    for name in KINDS:
        document[name] = _operator_table(getattr(efficiency, name))
    for name in TIERS:
        document[name] = _link_table(getattr(efficiency, name))
    write_text(path, tomlkit.dumps(document))


def shipped_set() -> Path:
    """The file of the shipped kernels that are pooled over accelerators."""
    return configs() / "efficiency" / "kernels.toml"


def _operator_table(operator: OperatorEfficiency) -> Any:
    """The values of bf16, and those of other formats that differ."""
    columns = {name: np.asarray(getattr(operator, name), dtype=float) for name in OPERATOR}
    base = {name: column[FORMATS.index("bf16")] for name, column in columns.items()}
    table = tomlkit.table()
    table.update(_entries(base))
    for place, number_format in enumerate(FORMATS):
        other = {
            name: column[place] for name, column in columns.items() if column[place] != base[name]
        }
        if other:
            table.add(number_format, inline(_entries(other)))
    return table


def _entries(values: Mapping[str, float]) -> Values:
    """Values in the units and by the names of the file."""
    return {
        "launch_us" if name == "launch" else name: digits(
            value / MICROSECOND if name == "launch" else value
        )
        for name, value in values.items()
    }


def _link_table(link: LinkEfficiency) -> Any:
    table = tomlkit.table()
    table.add("bandwidth", digits(float(link.bandwidth)))
    table.add("collective_us", digits(float(link.collective) / MICROSECOND))
    table.add("step_us", digits(float(link.step) / MICROSECOND))
    table.add("ramp", digits(float(link.ramp)))
    return table
