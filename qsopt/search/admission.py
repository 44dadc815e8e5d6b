"""Which architectures of the grid may be an answer, and which of them must be looked at.

An architecture is admissible if top_k <= experts, the law's match is physical, its quality is no
worse than the reference's, and it stays below the ceilings. Wider experts are never faster (more
bytes, more arithmetic, more memory), so where speed is wanted only the narrowest admissible width
of each row counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import in_batches
from qsopt.errors import InputError
from qsopt.programs import compiled
from qsopt.quality import QualityLaw
from qsopt.search.architecture import (
    MatchedSizes,
    Values,
    matched_sizes,
    reference_value,
    with_architecture,
)
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Rows, Variable, columns, grid
from qsopt.spec.model import Model

TOLERANCE = 1e-9
"""Relative excess over a limit that counts as rounding."""

PART = 4096
"""Architectures sized in one call."""

LISTED = 20_000
"""Architectures of a thinned grid, about."""


@dataclass(frozen=True)
class Admission:
    """The rule of one problem."""

    problem: DesignProblem

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Columns of a row."""
        return self.problem.architecture

    @cached_property
    def width_column(self) -> int | None:
        """The column of which only the least value counts; None where all do."""
        names = [variable.name for variable in self.variables]
        is_about_speed = self.problem.objective != "advantage" and "expert_width" in names
        return names.index("expert_width") if is_about_speed else None

    @cached_property
    def reference_size(self) -> float:
        """Size of the dense model as good as the reference [parameters].

        Raises:
            InputError: if the law has no physical match for the reference.
        """
        problem = self.problem
        sizes = _compiled_sizes(problem.reference, problem.law, self._tokens, problem.correction)
        if problem.keep_quality and not bool(sizes.is_physical):
            raise InputError(
                f"law '{problem.law.name}' has no physical match for the reference; choose "
                f"another law"
            )
        return float(sizes.dense)

    @property
    def least_size(self) -> float:
        """Least size of the dense match that is good enough; tiny if quality does not matter
        [parameters].
        """
        return self.reference_size if self.problem.keep_quality else 1.0

    @property
    def _tokens(self) -> Scalar:
        return np.asarray(float(self.problem.tokens))

    def sizes(self, rows: Rows) -> MatchedSizes:
        """Sizes of each row and of its dense match, every field an array [n]."""
        reference, law = self.problem.reference, self.problem.law
        known = self._tokens, self.problem.correction
        return in_batches(
            lambda values: _row_sizes(reference, law, *known, values),
            columns(self.variables, rows),
            PART,
        )

    def is_admissible(self, rows: Rows) -> Bool[np.ndarray, " n"]:
        """Whether each row keeps every limit on the model."""
        sizes, problem = self.sizes(rows), self.problem
        kept = np.asarray(sizes.is_physical) & self.is_routable(rows)
        kept &= sizes.dense >= self.least_size * (1.0 - TOLERANCE)
        kept &= sizes.total <= problem.most_total * (1.0 + TOLERANCE)
        kept &= sizes.training <= problem.budgets.training_flops * (1.0 + TOLERANCE)
        return kept & (sizes.active <= problem.most_active * (1.0 + TOLERANCE))

    def is_routable(self, rows: Rows) -> Bool[np.ndarray, " n"]:
        """Whether top_k is at most the experts."""
        values = columns(self.variables, rows)
        experts, top_k = (
            values.get(name, reference_value(self.problem.reference, name))
            for name in ("experts", "top_k")
        )
        return np.broadcast_to(top_k <= experts, (len(rows),)).copy()

    def candidates(self, choices: Sequence[Float[np.ndarray, " values"]]) -> Rows:
        """Admissible rows of a grid, one list of values for each variable; of widths only the least
        where that is enough.
        """
        column = self.width_column
        if column is None:
            return self.admissible(grid(choices))
        others = list(choices)
        others[column] = choices[column][:1]
        return self.narrowest(grid(others))

    def admissible(self, rows: Rows) -> Rows:
        """The admissible ones, each once."""
        unique = np.unique(rows, axis=0) if rows.shape[1] else rows[:1]
        return unique[self.is_admissible(unique)]

    def narrowest(self, rows: Rows) -> Rows:
        """Each row with the least legal width that is admissible; rows without one are left out."""
        column = self.width_column
        if column is None:
            return self.admissible(rows)
        widths = self.variables[column].legal()
        rows = rows.copy()
        rows[:, column] = widths[0]
        rows = np.unique(rows, axis=0)
        wide = np.repeat(rows, len(widths), axis=0)
        wide[:, column] = np.tile(widths, len(rows))
        kept = self.is_admissible(wide).reshape(len(rows), len(widths))
        rows[:, column] = widths[np.argmax(kept, axis=1)]
        return rows[kept.any(axis=1)]

    def thinned_grid(self) -> Rows:
        """About `LISTED` rows, admissible or not, that keep the ends of every variable."""
        most = max(2, int(LISTED ** (1.0 / max(len(self.variables), 1))))
        return grid([_thinned(variable.legal(), most) for variable in self.variables])


def _thinned(legal: Float[np.ndarray, " values"], most: int) -> Float[np.ndarray, " fewer"]:
    """At most so many legal values, evenly spaced, both ends among them."""
    places = np.linspace(0, legal.size - 1, min(most, legal.size)).round().astype(int)
    return legal[np.unique(places)]


_compiled_sizes = compiled(matched_sizes)


@compiled
def _row_sizes(
    reference: Model, law: QualityLaw, tokens: Scalar, correction: Scalar | None, values: Values
) -> MatchedSizes:
    def sizes(row: Values) -> MatchedSizes:
        model = with_architecture(reference, row)
        return matched_sizes(model, law, jnp.asarray(tokens), correction)

    return jax.vmap(sizes)(values)
