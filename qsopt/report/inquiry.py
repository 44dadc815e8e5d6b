"""What an answer answers: an MoE and what it is served on and for, the law that gives its q, and
the names under which all of it is known.

Names are those that were asked with, else those that the records keep beside their numbers (see
`record`); a cluster is named by its numbers.
"""

from dataclasses import dataclass

import jax

from qsopt.catalog.accelerators import accelerator_name, cluster_phrase, hardware_notes
from qsopt.catalog.efficiencies import KERNELS
from qsopt.catalog.models import model_facts, model_names
from qsopt.comparison.dense import RELEASED, MatchKind, size_factor
from qsopt.errors import InputError, exactly
from qsopt.fitted.expected import SOFTWARE, Expectation, expectation
from qsopt.fitted.server import POOLED
from qsopt.precision import in_float64
from qsopt.quality import QualityLaw, law
from qsopt.quality.belief import DEFAULT, Belief, belief, given
from qsopt.record import name_of
from qsopt.spec.model import Model
from qsopt.spec.service import Service

MOST_TOKENS = 1e18
"""No model was trained on more [tokens]."""

ALL = "all"
"""Stands for the default law, with the answers of all laws beside it."""


def training_tokens(stated: float | None, model_name: str | None) -> float | None:
    """Training tokens as stated, or as the catalog has them; None if nobody knows.

    Raises:
        InputError: if the number stated is not positive.
    """
    if stated is not None and not 0 < stated < MOST_TOKENS:
        raise InputError(f"tokens = {exactly(stated)}: give the training tokens, such as 14.8e12")
    name = (model_name or "").lower()
    return stated or (model_facts(name).training_tokens if name in model_names() else None)


@dataclass(frozen=True)
class Inquiry:
    """A model, its service, and how its q is found."""

    model: Model
    service: Service
    law: str | QualityLaw = DEFAULT
    """The law behind q, by name or itself; or `all`."""
    q: float | None = None
    """As stated, instead of a law."""
    tokens: float | None = None
    """Training tokens as stated."""
    model_name: str | None = None
    """None for a model that is in no catalog and no file."""
    efficiency_name: str | None = None
    """None for a set that is none of those that ship."""
    phrase: str | None = None
    """The cluster as it was asked for, such as 8xh100."""
    kind: MatchKind = RELEASED
    """Which dense model the MoE is compared with."""
    named: Model | None = None
    """The dense model where it is one that exists."""
    law_raw: bool = False
    """Whether q is the bare law's value, not the calibrated median."""

    def __post_init__(self) -> None:
        for name, record in (
            ("model_name", self.model),
            ("efficiency_name", self.service.efficiency),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, name_of(record))

    @property
    def cluster_name(self) -> str | None:
        """The cluster as it was asked for, else by its numbers; None where no phrase names it."""
        chip = self.accelerator
        return self.phrase or (None if chip is None else cluster_phrase(self.service.cluster, chip))

    @property
    def accelerator(self) -> str | None:
        """The catalog's name of the accelerator; None for any other."""
        return accelerator_name(self.service.cluster.accelerator)

    @property
    def hardware_notes(self) -> list[str]:
        """What a reader should know of the figures behind the cluster."""
        return hardware_notes(self.service.cluster)

    @property
    def all_laws(self) -> bool:
        """Whether the answers of all laws are wanted."""
        return self.law == ALL

    def check_one_law(self) -> None:
        """Refuse all laws side by side where the answer rests on one.

        Raises:
            InputError: if all are asked for and q is neither stated nor that of a named model.
        """
        if self.all_laws and self.q is None and self.named is None:
            raise InputError(
                "law = all: this answer rests on one law; choose one, such as geometric, and see "
                "all side by side with compare or evaluate"
            )

    @property
    def law_name(self) -> str:
        """The law behind q: with all laws side by side, the default one."""
        if self.q is not None or self.named is not None:
            return "given"
        return self.quality_law.name

    @property
    def quality_law(self) -> QualityLaw:
        """The law behind q, whether or not q is stated.

        Raises:
            InputError: if no law has that name.
        """
        return law(DEFAULT) if self.law == ALL else law(self.law)

    @property
    def training_tokens(self) -> float | None:
        """As stated, or as the catalog has them; None if nobody knows."""
        return training_tokens(self.tokens, self.model_name)

    def believe(self, model: Model | None = None) -> Belief:
        """q of the model, or of another one, by the law or as stated, and how sure it is."""
        asked = self.model if model is None else model
        if self.named is not None:
            size = size_factor(asked, self.named)
            return given(float(size))
        if self.q is not None:
            return given(self.q)
        return belief(asked, self.quality_law, self.training_tokens, raw=self.law_raw)

    def expectation(self) -> Expectation | None:
        """How far from measurements the answer is expected to be; None for a bound or a user's own
        set.
        """
        name = self.efficiency_name
        if name not in (KERNELS, POOLED, *SOFTWARE):
            return None
        return expectation(self.model, self.accelerator, name if name in SOFTWARE else None)


@in_float64
def central_q(inquiry: Inquiry) -> float:
    """q of the model, as stated or by the law.

    Raises:
        InputError: if there is no such law, it lacks the training tokens, or it is unphysical for
            this model.
    """
    with jax.ensure_compile_time_eval():  # inside a user's jit too: the model is concrete
        return inquiry.believe().q
