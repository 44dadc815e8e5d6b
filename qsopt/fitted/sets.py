"""Efficiency sets for the decode model from fitted groups: one software's values, or pools that
carry over best.

The values of attention are those of decode kernels; prompts are read by others. For linear
attention, where nothing was measured, stand those of decode attention.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import equinox as eqx
import numpy as np

from qsopt.fitted.groups import ACROSS, Group, Store, Values
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
    "prefill_attention": "attention",
    "prefill_mla": "mla",
}
"""Which fitted kind each kind of a set takes its values from."""

TIERS = ("scale_up", "dispatch_up", "dispatch_out")
"""Tiers of links that are fitted."""

DOMAIN = 8.0
"""Devices of a domain where exchanges between domains were measured."""

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

PAIR = ("gemm", "experts")
"""Kinds that a comparison of an MoE with a dense model sets against each other."""

Choice = Callable[[list[Group]], Group]
"""Which of several groups of one kind and format is taken."""


def carries_over(groups: list[Group]) -> Group:
    """The group whose pool predicts accelerators that it has not seen best."""
    return min(groups, key=_held_out)


def best_pool(store: Store) -> Choice:
    """The group that carries over best; products and experts of a format from one software that has
    both, if any has.

    A comparison of an MoE with a dense model is one of experts with products: it should not be one
    of software with software.
    """

    def choice(groups: list[Group]) -> Group:
        def score(group: Group) -> tuple[int, float]:
            both = [one for one in store.groups if one.kind in PAIR and _runs(one) == _runs(group)]
            return -len(both), sum(map(_held_out, both))

        return min(groups, key=score) if groups[0].kind in PAIR else carries_over(groups)

    return choice


def _held_out(group: Group) -> float:
    return float(np.nan_to_num(group.other_accelerators.median, nan=np.inf))


def _runs(group: Group) -> tuple[str, str]:
    return group.backend, group.dtype


def of_backend(backend: str) -> Choice:
    """The group of a software, or, where it has none, the one that carries over best."""
    return lambda groups: next(
        (group for group in groups if group.backend == backend), carries_over(groups)
    )


def chosen(store: Store, kind: str, number_format: str, choice: Choice) -> Group | None:
    """The group that stands for a kind and format: of the format, else of the nearest, else of
    bf16; None without any.

    Kernels for special ways, whose names have a dash (wide expert parallelism), are left out.
    """
    for name in (number_format, _NEAREST.get(number_format, "bf16"), "bf16"):
        groups = [
            group
            for group in store.groups
            if (group.kind, group.dtype) == (kind, name) and "-" not in group.backend
        ]
        if groups:
            return choice(groups)
    return None


def link_groups(store: Store, tier: str, backend: str | None) -> list[Group]:
    """The groups behind a tier: all-reduce kernels launched from a graph, or low-latency dispatch
    and combine, one for each.

    Args:
        store: groups.
        tier: of `TIERS`.
        backend: whose they are; if None, or if it has none, of the software that carries over best,
            or, for dispatch and combine, of the one whose small messages are quickest: other tables
            hold times with launches from the host.
    """
    if tier == "scale_up":
        found = [
            group
            for group in store.groups
            if group.kind == "collective" and group.dtype == "custom"
        ]
        found = [group for group in found if not group.backend.endswith("-eager")]
        return [of_backend(f"custom-{backend}")(found)] if found else []
    found = [
        group
        for group in store.groups
        if group.kind == "exchange" and group.dtype in ("dispatch", "combine")
    ]
    found = [
        group
        for group in found
        if group.backend.endswith("deepep-ll" + (ACROSS if tier == "dispatch_out" else ""))
    ]
    mine = [group for group in found if backend and group.backend.startswith(backend)]
    if not mine and found:
        best = min(found, key=lambda group: group.pool["launch"])
        mine = [group for group in found if group.backend == best.backend]
    return mine


def efficiency(store: Store, backend: str | None, gpu: str | None, base: Efficiency) -> Efficiency:
    """An efficiency set with fitted values, and what operators do not tell from `base`.

    Args:
        store: groups.
        backend: software whose values are taken where it has any; those of `best_pool` if None.
        gpu: accelerator whose own values are taken where there are any; the pool's if None.
        base: links between domains, routing and memory.
    """
    choice = best_pool(store) if backend is None else of_backend(backend)

    def operator(kind: str) -> OperatorEfficiency | None:
        groups = [chosen(store, kind, name, choice) for name in FORMATS]
        rows = [_complete(values_on(group, gpu)) for group in groups if group is not None]
        if not rows:
            return None
        return OperatorEfficiency(*(np.array([row[name] for row in rows]) for name in OPERATOR))

    parts: dict[str, OperatorEfficiency | LinkEfficiency | None] = {
        name: operator(kind) for name, kind in KINDS.items()
    }
    links = {
        tier: _link([values_on(group, gpu) for group in link_groups(store, tier, backend)])
        for tier in TIERS
    }
    parts |= {**links, "dispatch_out": _beyond(links["dispatch_out"], links["dispatch_up"])}
    fitted = {name: part for name, part in parts.items() if part is not None}
    return (
        eqx.tree_at(lambda e: [getattr(e, name) for name in fitted], base, list(fitted.values()))
        if fitted
        else base
    )


def values_on(group: Group, gpu: str | None) -> Values:
    """Parameters of a group on an accelerator: its own, or the pool's where it was not measured."""
    own = group.own.get(gpu or "")
    return group.pool if own is None else own.values


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


def save_set(chosen: Efficiency, head: str, rest: str, path: Path) -> None:
    """Write an efficiency set.

    Args:
        chosen: the set.
        head: name, version, date, source and note, as text.
        rest: tables that are not fitted, as text.
        path: file to write.
    """
    tables = [line for name in KINDS for line in _operator_lines(name, getattr(chosen, name))]
    tables += [line for name in TIERS for line in _link_lines(name, getattr(chosen, name))]
    path.write_text("\n".join([head.strip(), *tables, "", rest.strip()]) + "\n")


def _operator_lines(kind: str, operator: OperatorEfficiency) -> Iterator[str]:
    """One table: the values of bf16, and those of other formats that differ."""
    columns = {name: np.asarray(getattr(operator, name), dtype=float) for name in OPERATOR}
    base = {name: column[FORMATS.index("bf16")] for name, column in columns.items()}
    yield f"\n[{kind}]"
    yield from (_entry(name, value) for name, value in base.items())
    for place, number_format in enumerate(FORMATS):
        changed = [
            _entry(name, column[place])
            for name, column in columns.items()
            if column[place] != base[name]
        ]
        if changed:
            yield f"{number_format} = {{ {', '.join(changed)} }}"


def _link_lines(tier: str, link: LinkEfficiency) -> Iterator[str]:
    yield f"\n[{tier}]"
    yield f"bandwidth = {float(link.bandwidth):.4g}"
    yield f"collective_us = {float(link.collective) / MICROSECOND:.4g}"
    yield f"step_us = {float(link.step) / MICROSECOND:.4g}"
    yield f"ramp = {float(link.ramp):.4g}"


def _entry(name: str, value: float) -> str:
    return f"launch_us = {value / MICROSECOND:.4g}" if name == "launch" else f"{name} = {value:.4g}"
