"""Which architectures of the grid may be an answer, and which of them must be looked at.

An architecture is a row of values of the free architecture variables. It is admissible if top_k <=
experts, the law's match is physical, its quality is no worse than the reference's, and it stays
below the ceilings. Wider experts are never faster (more bytes, more arithmetic, more memory), so
where speed is wanted only the narrowest admissible width of each row counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.quality import QualityLaw
from qsopt.search.architecture import Values, matched, with_architecture
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Variable
from qsopt.spec.model import Model, moe_layers

TOLERANCE = 1e-9
"""Relative excess over a limit that counts as rounding."""

PART = 4096
"""Architectures sized in one call."""

Rows = Float[np.ndarray, "n variables"]


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
        names = [each.name for each in self.variables]
        wanted = self.problem.objective != "advantage" and "expert_width" in names
        return names.index("expert_width") if wanted else None

    @cached_property
    def reference_size(self) -> float:
        """Size of the dense model as good as the reference [parameters].

        Raises:
            InputError: if the law has no physical match for the reference.
        """
        problem = self.problem
        found = np.asarray(
            _size_of(problem.reference, problem.law, np.asarray(float(problem.tokens)))
        )
        if self.problem.keep_quality and not found[1]:
            raise InputError(
                f"law '{problem.law.name}' has no physical match for the reference; choose "
                f"another law"
            )
        return float(found[0])

    @property
    def least_size(self) -> float:
        """Least size of the dense match that is good enough; tiny if quality does not matter
        [parameters].
        """
        return self.reference_size if self.problem.keep_quality else 1.0

    def sizes(self, rows: Rows) -> Float[np.ndarray, "n sizes"]:
        """Of each row what `architecture.matched` says."""
        names, problem = [each.name for each in self.variables], self.problem
        found = []
        for at in range(0, len(rows), PART):
            part = rows[at : at + PART]
            filled = np.concatenate([part, np.repeat(part[-1:], PART - len(part), axis=0)])
            values = dict(zip(names, filled.T, strict=True)) or {"": np.zeros(len(filled))}
            sized = _sizes(
                problem.reference, problem.law, np.asarray(float(problem.tokens)), values
            )
            found.append(np.asarray(sized)[: len(part)])
        return np.concatenate(found)

    def is_admissible(self, rows: Rows) -> Bool[np.ndarray, " n"]:
        """Whether each row keeps every limit on the model."""
        sizes, problem = self.sizes(rows), self.problem
        kept = (sizes[:, 1] > 0) & self.is_routable(rows)
        kept &= sizes[:, 0] >= self.least_size * (1.0 - TOLERANCE)
        kept &= sizes[:, 2] <= problem.most_total * (1.0 + TOLERANCE)
        return kept & (sizes[:, 3] <= problem.most_active * (1.0 + TOLERANCE))

    def is_routable(self, rows: Rows) -> Bool[np.ndarray, " n"]:
        """Whether top_k is at most the experts."""
        names = [each.name for each in self.variables]
        default = dict(zip(("experts", "top_k"), _routing(self.problem.reference), strict=True))
        columns = {
            name: rows[:, names.index(name)] if name in names else default[name] for name in default
        }
        return np.broadcast_to(columns["top_k"] <= columns["experts"], (len(rows),)).copy()

    def candidates(self, choices: Sequence[Float[np.ndarray, " values"]]) -> Rows:
        """Admissible rows of a grid, one list of values for each variable; of widths only the least
        where that is enough.
        """
        column = self.width_column
        if column is None:
            return self.admitted(_grid(choices))
        others = list(choices)
        others[column] = choices[column][:1]
        return self.narrowest(_grid(others))

    def admitted(self, rows: Rows) -> Rows:
        """The admissible ones, each once."""
        unique = np.unique(rows, axis=0) if rows.shape[1] else rows[:1]
        return unique[self.is_admissible(unique)]

    def narrowest(self, rows: Rows) -> Rows:
        """Each row with the least legal width that is admissible; rows without one are left out."""
        column = self.width_column
        if column is None:
            return self.admitted(rows)
        widths = self.variables[column].legal()
        rows = rows.copy()
        rows[:, column] = widths[0]
        rows = np.unique(rows, axis=0)
        wide = np.repeat(rows, len(widths), axis=0)
        wide[:, column] = np.tile(widths, len(rows))
        kept = self.is_admissible(wide).reshape(len(rows), len(widths))
        rows[:, column] = widths[np.argmax(kept, axis=1)]
        return rows[kept.any(axis=1)]


def _grid(choices: Sequence[Float[np.ndarray, " values"]]) -> Rows:
    if not choices:
        return np.zeros((1, 0))
    return np.stack([each.ravel() for each in np.meshgrid(*choices, indexing="ij")], axis=1)


def _routing(model: Model) -> tuple[float, float]:
    moe = moe_layers(model)
    assert moe is not None
    return float(moe.experts), float(moe.top_k)


@eqx.filter_jit
def _size_of(model: Model, law: QualityLaw, tokens: Scalar) -> Float[Array, " sizes"]:
    return matched(model, law, jnp.asarray(tokens))


@eqx.filter_jit
def _sizes(
    reference: Model, law: QualityLaw, tokens: Scalar, values: Values
) -> Float[Array, "n sizes"]:
    return jax.vmap(
        lambda row: matched(with_architecture(reference, row), law, jnp.asarray(tokens))
    )(values)
