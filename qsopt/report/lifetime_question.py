"""From what is asked by name to the question that `lifetime` answers, and its answer."""

from qsopt.comparison.opinions import opinions
from qsopt.errors import InputError, check_seed
from qsopt.fitted.server import known_server
from qsopt.lifetimes.lifetime import Lifetime, LifetimeQuestion, lifetime
from qsopt.lifetimes.training import Trainer
from qsopt.precision import in_float64
from qsopt.quality.belief import around_published
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.lifetime import known_errors


@in_float64
def question(
    inquiry: Inquiry, trainer: Trainer, student_share: float | None, seed: int
) -> LifetimeQuestion:
    """The question in numbers.

    Args:
        inquiry: what was asked, by name.
        trainer: who trains.
        student_share: tokens of distillation over those of training, None where not known.
        seed: of the draws.

    Raises:
        InputError: if nobody knows the training tokens, or the seed is none.
    """
    check_seed(seed)
    tokens = inquiry.training_tokens
    if tokens is None:
        raise InputError("the training tokens of this model are not known: give --tokens")
    found = opinions(inquiry.model, tokens) if inquiry.all_laws else []
    return LifetimeQuestion(
        inquiry.model,
        inquiry.service,
        trainer,
        tokens,
        around_published(inquiry.believe()) if inquiry.law_raw else inquiry.believe(),
        inquiry.kind,
        inquiry.named,
        student_share,
        known_server(inquiry.efficiency_name),
        {each.law: each.q for each in found if each.q is not None},
        seed,
    )


def answer_of(inquiry: Inquiry, asked: LifetimeQuestion) -> Lifetime:
    """The answer, with the errors that are known of what was asked by name."""
    return lifetime(asked, known_errors(inquiry))
