"""Measured points: what the package says an operator or a message costs, what it ran on, and the
time it took.
"""

from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool

from qsopt.fitted.errors import Column
from qsopt.physics.roofline import Cost


class Labels(eqx.Module):
    """What each row is called: each field one text for each row."""

    file: np.ndarray
    """File that it stands in."""
    kind: np.ndarray
    """Kind of operator or message."""
    gpu: np.ndarray
    """Accelerator, as the catalog calls it."""
    backend: np.ndarray
    """Software that ran it."""
    dtype: np.ndarray
    """Number format of what it reads most of, as `formats` calls it; for a message the operation.
    """
    shape: np.ndarray
    """Model or shape: what is left out as a whole to see how the fit carries over."""

    @property
    def family(self) -> np.ndarray:
        """Kind, backend and format: what shares parameters."""
        return np.char.add(
            np.char.add(np.char.add(np.char.add(self.kind, "/"), self.backend), "/"), self.dtype
        )


class OperatorPoints(eqx.Module):
    """Measured operators with what the roofline needs to predict them."""

    labels: Labels
    cost: Cost
    """FLOPs, bytes and launches of each row."""
    peak: Column
    """Peak of the arithmetic [FLOP/s]."""
    bandwidth: Column
    """Of the memory [byte/s]."""
    rows: Column
    """Rows of each matrix product: tokens, or for scores over a cache the query heads that share an
    entry of it.
    """
    tokens: Column
    """Tokens of the forward pass: rows of a dense product, tokens of all ranks of an MoE layer,
    sequences of decode attention.
    """
    seconds: Column
    """Measured time [s]."""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def ideal(self) -> Column:
        """The larger of compute and memory time at full peaks [s]."""
        return np.maximum(self.cost.flops / self.peak, self.cost.bytes / self.bandwidth)

    @property
    def sizes(self) -> tuple[Column, ...]:
        """What must be positive for a row to mean anything."""
        return self.cost.bytes, self.rows, self.tokens


class MessagePoints(eqx.Module):
    """Measured collectives and exchanges of tokens."""

    labels: Labels
    sent: Column
    """What a device sends [byte]."""
    bandwidth: Column
    """Of the link [byte/s]."""
    steps: Column
    """Steps of a ring, or ranks (between domains: domains) that tokens are exchanged with."""
    seconds: Column
    """Measured time [s]."""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def ideal(self) -> Column:
        """Time on the link at its full speed [s]."""
        return self.sent / self.bandwidth

    @property
    def sizes(self) -> tuple[Column, ...]:
        """What must be positive for a row to mean anything."""
        return self.sent, self.steps


Points = OperatorPoints | MessagePoints
SomePoints = TypeVar("SomePoints", bound=Points)


def unlabelled(points: SomePoints) -> SomePoints:
    """Numbers alone, which JAX can trace."""
    return eqx.tree_at(lambda points: points.labels, points, None)


def where(points: SomePoints, keep: Bool[np.ndarray, " rows"]) -> SomePoints:
    """Only some rows."""
    return jax.tree.map(lambda column: np.asarray(column)[keep], points)


def joined(parts: list[SomePoints]) -> SomePoints:
    """Several sets of points of one record as one."""
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
