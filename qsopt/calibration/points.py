"""Measured points: the cost of an operator as the package counts it, what it ran on, and the time
it took.
"""

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
    """Kind of operator."""
    gpu: np.ndarray
    """Accelerator, as the catalog calls it."""
    backend: np.ndarray
    """Software that ran it."""
    dtype: np.ndarray
    """Number format of what it reads most of, as `formats` calls it."""
    shape: np.ndarray
    """Model or shape: what is left out as a whole to see how the fit carries over."""

    @property
    def family(self) -> np.ndarray:
        """Kind, backend and format: what shares parameters."""
        return np.char.add(
            np.char.add(np.char.add(np.char.add(self.kind, "/"), self.backend), "/"), self.dtype
        )


class Points(eqx.Module):
    """Rows of measurement with what the roofline needs to predict them."""

    labels: Labels
    cost: Cost
    """FLOPs, bytes and launches of each row; for a collective, bytes are those that a device sends.
    """
    peak: Column
    """Peak of the arithmetic [FLOP/s]."""
    bandwidth: Column
    """Of the memory, or of a link for collectives [byte/s]."""
    tokens: Column
    """Rows of each product; ring steps of a collective; query heads that share a KV head or a
    latent.
    """
    batch: Column
    """Tokens of the whole forward pass, or sequences of decode attention."""
    seconds: Column
    """Measured time [s]."""

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def ideal(self) -> Column:
        """The larger of compute and memory time at full peaks [s]."""
        return np.maximum(self.cost.flops / self.peak, self.cost.bytes / self.bandwidth)

    @property
    def unlabelled(self) -> "Points":
        """Numbers alone, which JAX can trace."""
        return eqx.tree_at(lambda points: points.labels, self, None)

    def where(self, keep: Bool[np.ndarray, " rows"]) -> "Points":
        """Only some rows."""
        return jax.tree.map(lambda column: np.asarray(column)[keep], self)


def joined(parts: list[Points]) -> Points:
    """Several sets of points as one."""
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
