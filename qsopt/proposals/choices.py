"""Lists of what a deployment may be: layouts in ways of serving with chunks, as rows that any
architecture can be tried in.

Trying one architecture in every layout has two steps: every layout in every way with a few chunks,
then the best layouts of each way with every chunk. A first glance looks at layouts of powers of two
alone. What is best for some architectures is then tried for thousands.
"""

from collections.abc import Sequence

import jax
import numpy as np

from qsopt.deployments.batches import length, take
from qsopt.deployments.layouts import legal_layouts
from qsopt.serving.candidates import ALTERNATING, MIXED, READER, UNIFORM, WRITER, Candidates
from qsopt.serving.candidates import candidates as candidates_of
from qsopt.serving.ways import SEARCHED
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

COARSE = {MIXED: (2, 4, 6), UNIFORM: (0,), ALTERNATING: (2, 4), WRITER: (0,), READER: (1, 3)}
"""Places of chunks that are tried at first, of a list from the largest down by halves."""

REFINED = 24
"""Layouts of each way that are tried with every chunk."""


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several lists as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def keys(every: Candidates) -> list[tuple[float, ...]]:
    """What tells candidates apart, whatever the experts of a model make of their places."""
    layout = every.layout
    columns = (
        layout.tensor,
        layout.data,
        layout.pipeline,
        layout.expert,
        layout.dispatched,
        layout.dcp,
        every.kind,
        every.chunk,
        every.sharing,
    )
    return list(map(tuple, np.stack([np.asarray(c, float) for c in columns], axis=1).tolist()))


def distinct(every: Candidates) -> Candidates:
    """The list without repetitions, in its order."""
    seen: dict[tuple[float, ...], int] = {}
    for place, key in enumerate(keys(every)):
        seen.setdefault(key, place)
    return take(every, np.array(sorted(seen.values()), dtype=int))


def every_layout(model: Model, service: Service) -> Deployment:
    """The layouts that a service allows a concrete model."""
    return legal_layouts(model, service.cluster, service.rules)


def usual(layouts: Deployment, devices: float) -> Deployment:
    """Layouts of powers of two without shared caches, whose experts are spread over all devices of
    a stage or none; all where there is none.
    """
    stage = np.asarray(layouts.tensor * layouts.data)
    plain = np.asarray(layouts.dcp) == 1
    for size in (layouts.tensor, layouts.data, layouts.pipeline):
        plain &= np.log2(np.asarray(size)) % 1 == 0
    plain &= (np.asarray(layouts.expert) == 1) | (np.asarray(layouts.expert) == stage)
    plain &= devices % (stage * np.asarray(layouts.pipeline)) == 0
    return take(layouts, plain) if plain.any() else layouts


def coarse(layouts: Deployment, ways: tuple[str, ...]) -> Candidates:
    """Every layout in every way with a few chunks."""
    every = candidates_of(layouts, ways)
    kept = np.zeros(length(every), bool)
    for kind, chunks in COARSE.items():
        kept |= (every.kind == kind) & np.isin(every.chunk, chunks)
    return take(every, kept)


def refined(tried: Candidates, value: np.ndarray, ways: tuple[str, ...]) -> Candidates:
    """The best layouts of each kind with every chunk.

    Args:
        tried: candidates.
        value: of each.
        ways: that are searched.
    """
    parts = []
    for kind in (MIXED, ALTERNATING, WRITER, READER):
        group = (MIXED, UNIFORM) if kind == MIXED else (kind,)
        rows = np.flatnonzero(np.isin(tried.kind, group) & (value > 0))
        rows = rows[np.argsort(-_per_device(tried, value, kind)[rows], kind="stable")]
        layouts = distinct(take(tried, rows)._replace(kind=np.full(len(rows), kind)))
        chosen = take(_bare(layouts), slice(0, REFINED))
        if length(chosen.layout):
            way = {MIXED: "mixed", ALTERNATING: "alternating"}.get(kind, "disaggregated")
            listed = candidates_of(chosen.layout, (way,))
            parts.append(take(listed, np.isin(listed.kind, group)))
    return distinct(joined(parts)) if parts else tried


def _bare(every: Candidates) -> Candidates:
    """One candidate for each layout."""
    blank = every._replace(chunk=0 * every.chunk, sharing=0 * every.sharing + 1)
    return distinct(blank)


def _per_device(tried: Candidates, value: np.ndarray, kind: int) -> np.ndarray:
    """What is compared: of pools the rate per device."""
    if kind not in (WRITER, READER):
        return value
    layout = tried.layout
    return value / np.asarray(layout.tensor * layout.data * layout.pipeline)


WAYS_OF_DECODE = ("disaggregated",)
"""Decode alone is what a pool does that only writes."""


def ways_of(decode_alone: bool) -> tuple[str, ...]:
    """Ways that are searched."""
    return WAYS_OF_DECODE if decode_alone else SEARCHED
