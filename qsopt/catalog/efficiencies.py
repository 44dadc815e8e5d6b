"""Efficiency sets by name: `ideal`, the sets in `configs/efficiency`, or a user's TOML file of the
same form. Sets of servers are made of these in `fitted`.
"""

from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from qsopt.catalog.folder import configs
from qsopt.catalog.server_memory import read_server_memory
from qsopt.errors import InputError, unknown_name
from qsopt.files import read_toml
from qsopt.record import named
from qsopt.spec.efficiency import (
    LINK_TIERS,
    OPERATOR_KINDS,
    PREFILL_KINDS,
    Efficiency,
    LinkEfficiency,
    OperatorEfficiency,
    Server,
    ideal,
)
from qsopt.spec.formats import FORMATS
from qsopt.units import MICROSECOND, MILLISECOND, GiB

_OPERATOR_KEYS = (
    "launch_us",
    "bandwidth",
    "compute",
    "softness",
    "half_tokens",
    "half_width",
    "half_batch",
    "half_columns",
    "half_rows",
    "elsewhere",
)
_OPERATOR_USUAL = {"half_columns": 0.0, "half_rows": 0.0, "elsewhere": 0.0}
"""Entries of an operator that a file may leave out, and what holds then."""
_LINK_KEYS = ("bandwidth", "collective_us", "step_us", "ramp")
_ROUTING_KEYS = ("straggler", "popularity_cv2", "imbalance_cv2")
_MEMORY_KEYS = ("workspace", "reserve_GiB")
_CHOICES = {
    "messages": {
        "merged_dispatch": 1.0,
        "dispatch_bytes": 0.0,
        "attention_overlap": 0.0,
        "ffn_overlap": 0.0,
        "prefill_overlap": 0.0,
    },
    "speculation": {"sequence_correlation": 0.0},
    "placement": {"shared_links": 1.0},
}
"""Tables that a file may leave out, whole or in part, and what holds then."""
_SERVER = {
    "scale": 1.0,
    "host_ms": 0.0,
    "prefill_scale": 1.0,
    "prefill_host_ms": 0.0,
    "interference": 1.0,
    "transfer_overlap": 0.0,
    "host_layer_us": 0.0,
    "first_layer_us": 0.0,
}
"""One more such table, of `efficiency.Server`."""
_ABOUT_KEYS = {"name", "version", "date", "source", "note"}
_SHARES = {"bandwidth", "compute"}


KERNELS = "kernels"
"""The set of kernels that is pooled over software and accelerators, without what a server adds."""


def efficiency_names() -> tuple[str, ...]:
    """Names of the sets that stand in files, and of the bound."""
    return ("ideal", *sorted(path.stem for path in (configs() / "efficiency").glob("*.toml")))


@cache
def efficiency_set(name: str) -> Efficiency:
    """The shipped set of that name, read once.

    Raises:
        InputError: if there is no set of that name.
    """
    return load_efficiency(name)


def load_efficiency(which: str | Path) -> Efficiency:
    """An efficiency set by name, or from a `.toml` file of the same form as those in
    `configs/efficiency`.

    Raises:
        InputError: if the name is unknown, or a value of the file is missing, unknown or out of
            range.
    """
    name = str(which)
    if name == "ideal":
        return named(ideal(), name)
    if name.endswith(".toml"):
        return named(_Reader(Path(which)).efficiency(), name)
    if name not in efficiency_names():
        raise unknown_name("efficiency set", name[:60], efficiency_names())
    return named(_Reader(configs() / "efficiency" / f"{name}.toml").efficiency(), name)


ASSUMPTIONS = (
    "straggler",
    "popularity_cv2",
    "imbalance_cv2",
    "attention_overlap",
    "ffn_overlap",
    "prefill_overlap",
    "merged_dispatch",
    "dispatch_bytes",
    "shared_links",
    "workspace",
    "reserve_bytes",
)
"""Numbers of an efficiency set that say what is assumed, not what a kernel reaches."""


def assuming(efficiency: Efficiency, text: str) -> Efficiency:
    """The set with some of its assumptions changed.

    Args:
        efficiency: the set.
        text: such as `merged_dispatch=0,straggler=0`; names as in `ASSUMPTIONS`.

    Raises:
        InputError: if a name is unknown or a value is no number of zero or more.
    """
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = (each.strip() for each in part.partition("="))
        if name not in ASSUMPTIONS:
            raise unknown_name("assumption", name[:60], ASSUMPTIONS)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0.0 <= number < 1e15:
            raise InputError(f"assume {name} = {value[:40]}: give a number, zero or more")
        efficiency = eqx.tree_at(attrgetter(name), efficiency, np.asarray(number))
    return efficiency


class _Reader:
    """One file, read strictly: every key must be there and none may be left over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        remedy = (
            "give a file like configs/efficiency/kernels.toml, or the efficiency set ideal or "
            "fitted"
        )
        self.tables = read_toml(path, remedy)
        kinds = (*OPERATOR_KINDS, *PREFILL_KINDS, *LINK_TIERS)
        known = {*kinds, "routing", "memory", "server", "server_memory", *_CHOICES, *_ABOUT_KEYS}
        for key in self.tables:
            if key not in known:
                raise InputError(
                    f"{path}: unknown entry '{key}'; known: {', '.join(sorted(known))}"
                )

    def efficiency(self) -> Efficiency:
        operators: dict[str, Any] = {name: self._operator(name) for name in OPERATOR_KINDS}
        for name, decode in PREFILL_KINDS.items():
            operators[name] = self._operator(name) if name in self.tables else operators[decode]
        tiers: dict[str, Any] = {name: self._link(name) for name in LINK_TIERS}
        routing = self._values("routing", self.tables.get("routing"), _ROUTING_KEYS)
        memory = self._values("memory", self.tables.get("memory"), _MEMORY_KEYS)
        choices = {}
        for name, usual in _CHOICES.items():
            choices |= self._completed(name, usual)
        return Efficiency(
            **operators,
            **tiers,
            **routing,
            **choices,
            server=self._server(),
            workspace=memory["workspace"],
            reserve_bytes=memory["reserve_GiB"] * GiB,
            memory=read_server_memory(
                self.tables.get("server_memory", {}), f"{self.path}: [server_memory]"
            ),
        )

    def _completed(self, name: str, usual: dict[str, float]) -> dict[str, Any]:
        """A table that may be left out, whole or in part."""
        table = self.tables.get(name, {})
        given = {**usual, **table} if isinstance(table, dict) else None
        return self._values(name, given, tuple(usual))

    def _server(self) -> Server:
        row = self._completed("server", _SERVER)
        for name in ("host", "prefill_host"):
            row[name] = row.pop(f"{name}_ms") * MILLISECOND
        for name in ("host_layer", "first_layer"):
            row[name] = row.pop(f"{name}_us") * MICROSECOND
        return Server(**row)

    def _operator(self, name: str) -> OperatorEfficiency:
        table = self.tables.get(name)
        forms = (
            {key: table[key] for key in FORMATS if key in table} if isinstance(table, dict) else {}
        )
        for key, value in {name: table, **forms}.items():
            if not isinstance(value, dict):
                raise InputError(
                    f"{self.path}: [{name}]: '{key}' must be a table; compare with "
                    f"configs/efficiency/kernels.toml"
                )
        base = {
            **_OPERATOR_USUAL,
            **{key: value for key, value in self.tables[name].items() if key not in FORMATS},
        }
        rows = [
            self._values(f"{name}.{form}", {**base, **forms.get(form, {})}, _OPERATOR_KEYS)
            for form in FORMATS
        ]
        columns = {key: np.array([row[key] for row in rows]) for key in _OPERATOR_KEYS}
        return OperatorEfficiency(columns.pop("launch_us") * MICROSECOND, **columns)

    def _link(self, name: str) -> LinkEfficiency:
        row = self._values(name, self.tables.get(name), _LINK_KEYS)
        fixed, step = row["collective_us"] * MICROSECOND, row["step_us"] * MICROSECOND
        return LinkEfficiency(row["bandwidth"], fixed, step, row["ramp"])

    def _values(
        self, where: str, table: dict[str, Any] | None, keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if not isinstance(table, dict) or set(table) != set(keys):
            wrong = sorted(set(keys) ^ set(table or {}))
            raise InputError(
                f"{self.path}: [{where}] needs exactly {', '.join(keys)}; missing or unknown: "
                f"{', '.join(wrong)}"
            )
        for key, value in table.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (0 < value <= 1e3 if key in _SHARES else 0 <= value < 1e9):
                sign = "positive" if key in _SHARES else "non-negative"
                raise InputError(f"{self.path}: [{where}] {key} = {value!r}: give a {sign} number")
        return {key: float(table[key]) for key in keys}
