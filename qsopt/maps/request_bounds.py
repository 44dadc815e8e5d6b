"""The exact best way of serving of one side at every point of a grid, by branch and bound.

Requests/s of a candidate with its largest batch only rise, or only fall, along an axis, so in a
block of points the corner where it serves most bounds it from above, and what anything serves at
the opposite corner bounds the optimum of every point from below. Of two pools, each bounds what it
may serve with the best other pool of its block: devices/(n_r/X_r + n_w/X_w).

Answers that are g times as long let g times as many sequences share the reading of prompts. With B'
of them, B'/g keep the limits at the shorter answer too and serve no less, but are no whole number:
so what u units serve bounds what is served further on but for a factor (u + 1)/u, and where not one
unit is allowed, though it fits and its first token is in time, nothing does. So with acceptance.

A candidate that cannot reach the lower bound of a block is dropped there; the rest is looked at in
smaller blocks, and at last at every point, where pairs get their whole split. Along an axis without
a trend (load) blocks are one point wide.
"""

import itertools

import numpy as np
from jaxtyping import Float

from qsopt.deployments.batches import put
from qsopt.deployments.best import EQUAL
from qsopt.maps.bounds import Trends
from qsopt.maps.request_blocks import Blocks
from qsopt.maps.request_optima import (
    BlockRows,
    Places,
    Reached,
    RequestOptima,
    Values,
    largest,
    take_best,
    values_at,
)
from qsopt.maps.request_pairs import PairRows, Pool, at_same_points, pair_values
from qsopt.maps.request_rows import Board, alike_for_readers, board
from qsopt.serving.candidates import READER, UNIFORM, WRITER
from qsopt.serving.narrowing import next_units, step, unknown, upper_between
from qsopt.serving.plan import WAYS
from qsopt.serving.replica import Served
from qsopt.serving.trials import Asked
from qsopt.spec.deployment import Deployment

WIDTHS = (16, 8, 4, 2, 1)
"""Of the blocks, each a multiple of the next."""

FEW = 3
"""Candidates of each kind that are tried for a block's lower bound."""

DIAGONAL = (0.05, 0.5, 0.95)
"""Places along both axes where everything is tried first."""

SLACK = 1e-6
"""Relative excess of a lower over an upper bound at which a candidate is dropped."""


def request_optima(
    served: Served,
    layouts: Deployment,
    questions: Asked,
    shape: tuple[int, int],
    trends: Trends,
    shared: bool,
    ways: tuple[str, ...] = WAYS,
) -> RequestOptima:
    """The optimum at every point.

    Args:
        served: model, service and draft of a side.
        layouts: its legal ones.
        questions: of all points in one row, the second axis first.
        shape: points along both axes.
        trends: of requests/s along both axes.
        shared: whether an axis moves how many sequences share the reading of prompts.
        ways: of serving.
    """
    return _Search(served, board(served, layouts, questions, ways), shape, trends, shared).run()


class _Search:
    """Branch and bound over a grid."""

    def __init__(
        self, served: Served, tried: Board, shape: tuple, trends: Trends, shared: bool
    ) -> None:
        self.served, self.board, self.shared = served, tried, shared
        self.shape, self.blocks = shape, Blocks(shape, trends)
        every, layout = tried.shares.every, tried.shares.every.layout
        self.kind, self.answer = every.kind, tried.number("answer")
        self.limit, self.first = tried.number("tpot_limit"), tried.number("ttft_limit")
        self.cluster = np.asarray(tried.questions.cluster.devices)
        self.unit, self.size = layout.data * layout.pipeline, layout.replica_devices
        self.holders = layout.tensor * layout.pipeline * every.sharing
        self.read_alike, self.evaluated = alike_for_readers(tried.questions), 0

    def run(self) -> RequestOptima:
        """Blocks from wide to narrow, each time without what cannot win."""
        rows, goal = self._all_rows(WIDTHS[0]), self._first_goal(WIDTHS[0])
        for width, finer in itertools.pairwise(WIDTHS):
            rows = self._survivors(rows, width, goal)
            rows, goal = self._split(rows, width, finer), self.lower
            goal = self.blocks.goal_of_parts(goal, width, finer)
        return self._optimum(self._survivors(rows, 1, goal))

    def _all_rows(self, width: int) -> BlockRows:
        indices = np.indices((*self.blocks.counts(width), len(self.kind)))
        rows = BlockRows(*indices.reshape(3, -1))
        return rows.take(self._tried_somewhere(rows, width))

    def _tried_somewhere(self, rows: BlockRows, width: int) -> np.ndarray:
        ends = (self.blocks.corner(rows.x, rows.y, width, best) for best in (True, False))
        low, high = (self.board.most[point] for point in ends)
        return self.board.there(low, high, rows.candidate)

    def _split(self, rows: BlockRows, width: int, finer: int) -> BlockRows:
        """The same candidates in the smaller blocks that make up each block."""
        wide, fine = self.blocks.widths(width), self.blocks.widths(finer)
        parts = wide[0] // fine[0], wide[1] // fine[1]
        i, j = (step.ravel() for step in np.indices(parts))
        x = (rows.x[:, None] * parts[0] + i).ravel()
        y = (rows.y[:, None] * parts[1] + j).ravel()
        counts = self.blocks.counts(finer)
        found = BlockRows(x, y, np.repeat(rows.candidate, len(i)))
        found = found.take((x < counts[0]) & (y < counts[1]))
        return found.take(self._tried_somewhere(found, finer))

    # ---- bounds ----------------------------------------------------------------------------------

    def _first_goal(self, width: int) -> Float[np.ndarray, " blocks"]:
        """What the best candidates of some points on the diagonal serve at least in blocks."""
        every, promising = np.arange(len(self.kind)), []
        for share in DIAGONAL:
            place = [int(share * (points - 1)) for points in self.shape]
            point = np.full(len(every), place[0] * self.shape[1] + place[1])
            alike = np.zeros(len(every), dtype=int)
            reached = self._reached(point, every, np.zeros(len(every)), True)
            score = self._scores(every, point, alike, reached, 1)
            promising.append(self._few(every, alike, score))
        kept = np.unique(np.concatenate(promising))
        x, y, place = (
            index.ravel() for index in np.indices((*self.blocks.counts(width), len(kept)))
        )
        block = x * self.blocks.counts(width)[1] + y
        worst = self.blocks.corner(x, y, width, False)
        return self._lower(worst, kept[place], block, int(np.prod(self.blocks.counts(width))))

    def _survivors(self, rows: BlockRows, width: int, goal: np.ndarray) -> BlockRows:
        """Rows that may reach the best of some point of their block; sets `lower`, what every point
        of a block reaches at least.
        """
        point, block = (
            self.blocks.corner(rows.x, rows.y, width, True),
            self.blocks.block(rows, width),
        )
        count = int(np.prod(self.blocks.counts(width)))
        reached = self._reached(point, rows.candidate, goal[block], width > 1)
        score = self._scores(rows.candidate, point, block, reached, count)
        few = self._few(rows.candidate, block, score)
        worst = self.blocks.corner(rows.x[few], rows.y[few], width, False)
        self.lower = np.maximum(goal, self._lower(worst, rows.candidate[few], block[few], count))
        return rows.take((score > 0.0) & (score >= self.lower[block] * (1.0 - SLACK)))

    def _reached(self, point: Places, candidate: Places, goal: Values, bound: bool) -> Reached:
        """What rows serve at points (see `_narrowed`); those that read prompts once for all points
        at which the same is read.
        """
        reads = self.kind[candidate] == READER
        key = self.read_alike[point] * len(self.kind) + candidate
        alone = -1 - np.arange(len(point))
        _, first, place = np.unique(
            np.where(reads, key, alone), return_index=True, return_inverse=True
        )
        found = self._narrowed(point[first], candidate[first], goal[first], bound)
        return Reached(*(column[place] for column in found))

    def _narrowed(self, point: Places, candidate: Places, goal: Values, bound: bool) -> Reached:
        """Rows narrowed until each is settled, or reaches the goal of its block, or cannot.

        Args:
            point: of each row.
            candidate: of each row.
            goal: requests/s of the cluster.
            bound: whether the most that a row could serve in its block is enough.
        """
        answer, limit, kind = self.answer[point], self.limit[point], self.kind[candidate]
        pools = kind >= WRITER
        # one-pool values are tokens/s of the cluster; a pool's goal depends on the other pool
        own = np.where(pools, 0.0, goal * answer)
        unit = self.unit[candidate]
        replicas = np.floor(self.cluster[point] / self.size[candidate])
        known, rows = unknown(len(point)), self.board.rows(point, candidate, bound)
        ttft, devices, fits = (np.ones(len(point), dtype=kind) for kind in (float, float, bool))
        while True:
            met = (known.value > own) & bound & ~np.isinf(known.bound) & (goal > 0.0)
            active = known.unsettled & (known.bound > own * (1.0 - EQUAL)) & ~met
            here = np.flatnonzero(active)
            if not len(here):
                break
            beats = np.floor(own[here] * limit[here] / np.maximum(replicas[here], 1.0) / unit[here])
            before = known.take(here)
            units = next_units(before, beats, limit[here])
            done = step(self.board.ask, before, rows.take(here), units)
            put(known, here, done.known)
            shown, came = here[done.shown], done.came
            ttft[shown], devices[shown], fits[shown] = came.ttft, came.devices, came.fits
            self.evaluated += done.trials
        to_requests = np.where(pools, 1.0, answer)
        upper = known.upper
        if bound and self.shared:
            late = (ttft > self.first[point] * (1.0 + EQUAL)) & (kind != UNIFORM)
            upper = np.where(pools, upper, upper_between(known, upper, fits & ~late))
        return Reached(upper / to_requests, known.value / to_requests, known.units, ttft, devices)

    def _scores(
        self, candidate: Places, point: Places, block: Places, reached: Reached, count: int
    ) -> Values:
        """Requests/s of the cluster that each row could reach, with the best other pool of its
        block.
        """
        kind, upper = self.kind[candidate], reached.upper
        late = (kind == READER) & (reached.ttft > self.first[point] * (1.0 + EQUAL))
        some = (upper > 0.0) & ~late
        share = np.where(some, reached.devices / np.where(some, upper, 1.0), np.inf)
        least = {}
        for pool in (READER, WRITER):
            best = np.full(count, np.inf)
            np.minimum.at(best, block[kind == pool], share[kind == pool])
            least[pool] = best
        other = np.where(kind == WRITER, least[READER][block], least[WRITER][block])
        with np.errstate(invalid="ignore"):
            pools = self.cluster[point] / (share + other)
        return np.where(kind >= WRITER, np.where(some, pools, 0.0), upper)

    def _few(self, candidate: Places, block: Places, score: Values) -> Places:
        """Of every block and kind of competitor the rows with the largest scores."""
        group = np.where(self.kind[candidate] >= WRITER, self.kind[candidate], 0)
        return largest(block * (READER + 1) + group, score, FEW)

    def _lower(
        self, point: Places, candidate: Places, block: Places, count: int
    ) -> Float[np.ndarray, " blocks"]:
        """What some rows serve at the corner of their block where all serve least."""
        most = self.board.most[point]
        inside = np.flatnonzero(self.board.there(most, most, candidate))
        point, candidate, block = point[inside], candidate[inside], block[inside]
        reached = self._reached(point, candidate, np.zeros(len(point)), False)
        lower = np.zeros(count)
        single = self.kind[candidate] < WRITER
        np.maximum.at(lower, block[single], reached.value[single])
        pairs = self._pairs(point, candidate, reached, np.zeros(len(self.cluster)))
        if len(pairs.point):
            values = self._pair_values(candidate, reached, pairs)
            np.maximum.at(lower, block[pairs.writer], values)
        return lower

    # ---- pairs of pools --------------------------------------------------------------------------

    def _pairs(self, point: Places, candidate: Places, reached: Reached, goal: Values) -> PairRows:
        """Every pair of a row that reads and one that writes at the same point which may reach the
        goal there.
        """
        kind = self.kind[candidate]
        alive = reached.value > 0.0
        reads, writes = (np.flatnonzero((kind == pool) & alive) for pool in (READER, WRITER))
        reader, writer = at_same_points(point, reads, writes)
        share = reached.devices / np.where(alive, reached.value, 1.0)
        most = self.cluster[point[writer]] / (share[reader] + share[writer])
        kept = most >= goal[point[writer]] * (1.0 - EQUAL)
        return PairRows(point[writer][kept], reader[kept], writer[kept])

    def _pair_values(self, candidate: Places, reached: Reached, pairs: PairRows) -> Values:
        pool = Pool(reached.value, reached.devices, self.holders[candidate], reached.ttft)
        return pair_values(self.served, self.board.questions, pool, pool, pairs)

    # ---- points ----------------------------------------------------------------------------------

    def _optimum(self, rows: BlockRows) -> RequestOptima:
        """The best of what is left at every point."""
        point, count = rows.x * self.shape[1] + rows.y, int(np.prod(self.shape))
        candidate = rows.candidate
        reached = self._reached(point, candidate, self.lower[point], False)
        best = [np.zeros(count), np.full(count, -1), np.full(count, -1), np.zeros(count)]
        single = np.flatnonzero((self.kind[candidate] < WRITER) & (reached.value > 0.0))
        take_best(best, point[single], reached.value[single], single, single)
        pairs = self._pairs(point, candidate, reached, np.maximum(best[0], self.lower))
        values = self._pair_values(candidate, reached, pairs)
        take_best(best, pairs.point, values, pairs.writer, pairs.reader)
        requests, writes, reads, _ = best
        numbers = (
            requests * self.answer,
            values_at(candidate, writes, -1),
            values_at(candidate, reads, -1),
            values_at(reached.units, writes, 0.0),
        )
        throughput, writer, reader, units = (grid.reshape(self.shape) for grid in numbers)
        shares = self.board.shares
        return RequestOptima(throughput, writer, reader, units, shares, self.evaluated)
