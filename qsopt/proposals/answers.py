"""What is asked of proposals, and the answer: its designs, what stands beside them, and fronts."""

from dataclasses import dataclass, field

from qsopt.errors import InputError, check_seed
from qsopt.proposals.bodies import Body, body_of, plain_body
from qsopt.proposals.boxes import RATIOS, Box, box_of, changed, including
from qsopt.proposals.fields import Task
from qsopt.proposals.fronts import Front
from qsopt.proposals.goals import Wanted, quality_of
from qsopt.proposals.opinions import DesignOpinion
from qsopt.proposals.points import Point, State
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.responses import Response
from qsopt.proposals.rows import row_of
from qsopt.proposals.sides import Companion
from qsopt.quality import QualityLaw
from qsopt.quality import law as law_named
from qsopt.quality.belief import DEFAULT
from qsopt.record import Result
from qsopt.spec.model import Model
from qsopt.spec.service import Service

FAMILIES = (MOE, DENSE)


@dataclass(frozen=True)
class ProposalQuestion:
    """What is asked."""

    service: Service
    """With a workload of requests; of decode alone, one whose mean context is the one asked for."""
    wanted: Wanted
    """Which quality."""
    families: tuple[str, ...] = FAMILIES
    law: QualityLaw | str = DEFAULT
    like: Model | None = None
    """Whose attention, vocabulary and formats proposals have; those of the model whose quality is
    wanted, or plain ones, if left out.
    """
    free_attention: bool = False
    bounds: tuple[tuple[str, tuple[float, float]], ...] = ()
    """Instead of the usual ones, by name."""
    decode_alone: bool = False
    seed: int = 0
    name: str = "reference"
    """Of the reference."""
    starts: tuple[tuple[float, ...], ...] = ()
    """Architectures that the search begins at beside its own, as rows."""

    @property
    def quality_law(self) -> QualityLaw:
        """The law that proposals are made by."""
        return law_named(self.law)

    @property
    def reference(self) -> Model | None:
        """The model that proposals stand beside."""
        return self.wanted.model


@dataclass(frozen=True)
class Proposal:
    """One design, with what is known about it."""

    name: str
    point: Point
    roles: tuple[str, ...]
    """Why it is proposed."""
    opinions: tuple[DesignOpinion, ...] = ()
    responses: tuple[Response, ...] = ()
    marks: tuple[str, ...] = ()
    beats_reference: float | None = None
    """Share of draws in which it serves more at the same quality; None without a reference."""
    beats_dense: float | None = None
    """The same over the best dense match."""


@dataclass(repr=False, eq=False)
class Answer(Result):
    """What was found."""

    question: ProposalQuestion = field(repr=False)
    task: Task = field(repr=False)
    state: State = field(repr=False)
    reference: Companion | None = None
    """In its best deployment."""
    usual: Companion | None = None
    """In the usual one."""
    dense: tuple[Companion, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    fronts: dict[str, tuple[Front, ...]] = field(default_factory=dict)
    complete: bool = False
    """Whether every step ran to its end."""


def task_of(question: ProposalQuestion) -> Task:
    """The search that a question stands for.

    Raises:
        InputError: if the question has no meaning.
    """
    check_seed(question.seed)
    for family in question.families:
        if family not in FAMILIES:
            raise InputError(f"family = {family}: take {MOE}, {DENSE} or both")
    body = _body(question)
    goal = question.wanted.by(question.quality_law)
    boxes = {
        family: _box(question, box_of(family, body, question.free_attention), body)
        for family in question.families
    }
    boxes = {name: _with_reference(box, question, goal, body) for name, box in boxes.items()}
    return Task(question.service, body, goal, boxes, question.decode_alone, question.seed)


def _body(question: ProposalQuestion) -> Body:
    like = question.like if question.like is not None else question.reference
    return plain_body() if like is None else body_of(like)


def _box(question: ProposalQuestion, box: Box, body: Body) -> Box:
    known = {*box.bounds, *box.ratios}
    every = {name for family in FAMILIES for name in RATIOS[family]} | known
    for name, _ in question.bounds:
        if name not in every:
            raise InputError(f"no bound '{name}'; there are {', '.join(sorted(every))}")
    return changed(box, **{name: span for name, span in question.bounds if name in known})


def _with_reference(box: Box, question: ProposalQuestion, goal, body: Body) -> Box:
    """The box, with the reference inside where it has the same body; stated bounds stay."""
    model = question.reference
    row = None if model is None else row_of(model, body)
    if model is None or row is None or question.bounds:
        return box
    return including(box, row, quality_of(model, goal))
