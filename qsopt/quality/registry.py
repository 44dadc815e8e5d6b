"""The laws by name."""

from qsopt.errors import InputError, unknown_name
from qsopt.quality.abnar import Abnar
from qsopt.quality.blend import COMBINED
from qsopt.quality.clark import CLARK
from qsopt.quality.constant import Constant
from qsopt.quality.empirical import empirical
from qsopt.quality.geometric import Geometric
from qsopt.quality.krajewski import Krajewski
from qsopt.quality.ludziejewski import Ludziejewski
from qsopt.quality.power import power
from qsopt.quality.quality_law import QualityLaw
from qsopt.quality.tian import Tian

BAND = ("ludziejewski", "geometric", "tian")
"""The laws that a comparison shows as its band, from low to high on most models."""


def laws() -> dict[str, QualityLaw]:
    """All laws; those of `BAND` and `combined` first."""
    shown = (Ludziejewski(), Geometric(), Tian(), COMBINED)
    others = (*CLARK, Krajewski(), Abnar(), Constant(), empirical(), power())
    return {law.name: law for law in (*shown, *others)}


def law(name: str | QualityLaw) -> QualityLaw:
    """A law by its name; a law itself stays as it is.

    Raises:
        InputError: if no law has the name, or it has no dense match.
    """
    if isinstance(name, QualityLaw):
        return name
    if name == "zhao":
        raise InputError(
            "law 'zhao' has no dense limit and so no dense match: use quality.Zhao to compare MoE "
            "with MoE"
        )
    known = laws()
    if name not in known:
        raise unknown_name("quality law", name, known)
    return known[name]
