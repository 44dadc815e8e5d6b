"""Blocks of points of a map over requests: how many, and where their corners are."""

from typing import NamedTuple

import numpy as np

from qsopt.maps.axes import NO_TREND, RISES
from qsopt.maps.bounds import Trends
from qsopt.maps.request_optima import BlockRows, Places


class Blocks(NamedTuple):
    """A grid of points cut into blocks; one point wide along an axis without a trend."""

    shape: tuple[int, int]
    """Points along both axes."""
    trends: Trends
    """Of requests/s along both axes."""

    def widths(self, width: int) -> tuple[int, int]:
        """Points of a block along both axes."""
        x, y = (1 if trend == NO_TREND else width for trend in self.trends)
        return x, y

    def counts(self, width: int) -> tuple[int, int]:
        """Blocks along both axes."""
        x, y = (-(-n // wide) for n, wide in zip(self.shape, self.widths(width), strict=True))
        return x, y

    def block(self, rows: BlockRows, width: int) -> Places:
        """The place of each row's block."""
        return rows.x * self.counts(width)[1] + rows.y

    def corner(self, x: Places, y: Places, width: int, best: bool) -> Places:
        """The point of each block at which requests/s are largest, or smallest."""
        ends = []
        for block, wide, points, trend in zip(
            (x, y), self.widths(width), self.shape, self.trends, strict=True
        ):
            last = (trend == RISES) == best
            ends.append(np.minimum((block + 1) * wide, points) - 1 if last else block * wide)
        return ends[0] * self.shape[1] + ends[1]

    def goal_of_parts(self, lower: np.ndarray, width: int, finer: int) -> np.ndarray:
        """The lower bound of the block that each smaller block is a part of."""
        counts, fine = self.counts(width), self.counts(finer)
        x, y = np.indices(fine)
        ratio = [a // b for a, b in zip(self.widths(width), self.widths(finer), strict=True)]
        return lower.reshape(counts)[x // ratio[0], y // ratio[1]].ravel()
