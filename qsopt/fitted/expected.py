"""How far the time of an operator is expected to be from a measurement: from the errors that the
fit left on rows it had not seen.

An accelerator with measurements of the software keeps the errors of its own fit; one whose siblings
were measured is as far off as the accelerators that were left out of the fit. From values pooled
over accelerators, one of a maker with measurements is as far off as the generations that were left
out; for any other maker there is no evidence, and the worst tenth of those rows is taken for
typical. How far whole servers are off is in `spread`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import equinox as eqx
import numpy as np

from qsopt.catalog.accelerators import accelerator_name, hardware_facts
from qsopt.catalog.efficiencies import (
    KERNELS,
    assuming,
    efficiency_names,
    efficiency_set,
    load_efficiency,
)
from qsopt.errors import unknown_name
from qsopt.fitted import sets
from qsopt.fitted.choices import best_pool, link_groups, of_backend, representative
from qsopt.fitted.generations import generation
from qsopt.fitted.groups import Calibration, FittedGroup, load_calibration, shipped
from qsopt.fitted.server import POOLED, by_default, known_server, server_fit
from qsopt.fitted.spread import Quantiles, widened
from qsopt.physics.step import core_kind
from qsopt.record import named
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import format_name
from qsopt.spec.hardware import Accelerator
from qsopt.spec.model import Model

SOFTWARE = ("trtllm", "vllm", "sglang")
"""Software whose kernels were measured; each is the name of an efficiency set on the cluster's
accelerator.
"""

NORMAL_MEDIAN = 0.6745
"""Median absolute deviation of a normal distribution over its standard deviation."""


@dataclass(frozen=True)
class Expectation:
    """What predictions for one model on one accelerator rely on."""

    basis: str
    """In words."""
    errors: dict[str, float]
    """Median absolute relative error by kind of operator or tier of links, as an efficiency set
    calls them.
    """

    @property
    def of_kernels(self) -> float:
        """Median absolute relative error expected of the typical kind of operator."""
        return float(np.median(list(self.errors.values())))

    def added_to(self, quantiles: Quantiles) -> Quantiles:
        """Quantiles of log errors of servers with that of kernels added, for an accelerator of a
        generation on which no server was measured.
        """
        return widened(quantiles, self.of_kernels / NORMAL_MEDIAN)

    def spreads(self) -> dict[str, float]:
        """Standard deviation of the log of a time by kind: what the median errors are of a normal
        distribution.
        """
        return {kind: error / NORMAL_MEDIAN for kind, error in self.errors.items()}


@cache
def shipped_calibration() -> Calibration:
    """The groups that ship."""
    return load_calibration(shipped())


def expectation(
    model: Model,
    accelerator: str | None,
    software: str | None = None,
    calibration: Calibration | None = None,
) -> Expectation:
    """What the errors of a fit say about a model on an accelerator.

    Args:
        model: its formats and attention tell which operators it runs.
        accelerator: name of the catalog; None for a user's own.
        software: of `SOFTWARE`, on the accelerator's own values; None for the set pooled over
            accelerators.
        calibration: fitted groups; the shipped ones if left out.
    """
    calibration = calibration or shipped_calibration()
    choice = best_pool(calibration) if software is None else of_backend(software)
    formats = _formats(model)
    groups = {
        name: representative(
            calibration, sets.KINDS[name], form, choice, accelerator if software else None
        )
        for name, form in formats.items()
    }
    groups |= {
        tier: next(iter(link_groups(calibration, tier, software)), None) for tier in sets.TIERS
    }
    groups = {name: group for name, group in groups.items() if group is not None}
    known = _maker(accelerator) in {
        _maker(gpu) for group in calibration.groups for gpu in group.own
    }
    errors = {
        name: _error(group, accelerator if software else None, known)
        for name, group in groups.items()
    }
    return Expectation(_basis(accelerator, software, formats["experts"], groups, known), errors)


def _formats(model: Model) -> dict[str, str]:
    """The kinds of operators that a model runs, each with the format that decides its
    efficiency.
    """
    precision = model.precision
    kinds = {"gemm": format_name(precision.ffn), "experts": format_name(precision.experts)}
    return kinds | {
        core_kind(layers.kind): format_name(precision.kv_cache)
        for layers in model.decoder.attention
    }


@cache
def _maker(accelerator: str | None) -> str | None:
    return None if accelerator is None else hardware_facts(accelerator).vendor


def _error(group: FittedGroup, own: str | None, known: bool) -> float:
    if own is not None and own in group.own:
        return group.own[own].errors.median
    if own is not None and generation(own) in group.generations:
        return group.other_accelerators.median
    return group.other_generations.median if known else group.other_generations.p90


def _basis(
    accelerator: str | None,
    software: str | None,
    experts: str,
    groups: Mapping[str, FittedGroup],
    known: bool,
) -> str:
    name = "an accelerator of your own" if accelerator is None else accelerator.upper()
    if not known:
        return f"no data for {name}: pooled over accelerators of other makers"
    if software is None:
        return f"pooled over accelerators, as far off for {name} as for those left out of the fit"
    if not any(accelerator in group.own for group in groups.values()):
        siblings = accelerator is not None and generation(accelerator)
        if any(siblings in group.generations for group in groups.values()):
            return f"no data for {name}: taken for its generation, {siblings}, with {software}"
        return f"no data for {name}: pooled over other accelerators with {software}"
    missing = sorted(
        kind
        for kind, group in groups.items()
        if accelerator not in group.own or software not in group.backend
    )
    return f"fitted on {name} {software} {experts}" + (
        f"; pooled for {', '.join(missing)}" if missing else ""
    )


def named_efficiency(which: str | Path, accelerator: str | None) -> Efficiency:
    """The efficiency set of a name or a file: the one door for both, in Python and on the command
    line.

    `fitted` and those of a software are what servers reach: kernels, and what a server adds to
    them. `kernels` are those of `fitted` alone, prompts read in two halves of a batch by turns.

    Args:
        which: of `names_of_sets`, or a TOML file.
        accelerator: name of the catalog, whose own values a software's set takes where it was
            measured; pooled ones for None.

    Raises:
        InputError: if there is no such set.
    """
    name = str(which)
    if name.endswith(".toml"):
        return load_efficiency(name)
    if name not in names_of_sets():
        raise unknown_name("efficiency set", name[:60], names_of_sets())
    if not known_server(name):
        return efficiency_set(name)
    return served_set(name, accelerator if name in SOFTWARE else None)


def efficiency_for(which: str | Path, accelerator: Accelerator, assume: str = "") -> Efficiency:
    """The efficiency set of a name or a file on an accelerator, with some assumptions changed.

    Args:
        which: of `names_of_sets`, or a TOML file.
        accelerator: whose own values a software's set takes, where it is in the catalog.
        assume: as `assuming` takes them.

    Raises:
        InputError: if there is no such set or assumption.
    """
    chip = accelerator_name(accelerator) if which in SOFTWARE else None
    return assuming(named_efficiency(which, chip), assume)


def names_of_sets() -> tuple[str, ...]:
    """Names of all efficiency sets."""
    return (*efficiency_names(), POOLED, *SOFTWARE)


@cache
def served_set(name: str, accelerator: str | None) -> Efficiency:
    """The efficiency set of what servers reach: kernels of all software, or of one on an
    accelerator, with what a server adds.
    """
    kernels = software_kernels(name, accelerator) if name in SOFTWARE else efficiency_set(KERNELS)
    served = eqx.tree_at(lambda e: e.server, by_default(kernels), server_fit().server(name))
    return named(served, name)


def software_kernels(software: str, accelerator: str | None) -> Efficiency:
    """The kernels of a software on an accelerator: its own values where it was measured, else
    pooled ones.
    """
    return sets.efficiency(shipped_calibration(), software, accelerator, efficiency_set(KERNELS))
