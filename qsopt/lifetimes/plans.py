"""Three ways to have a model, each with what it costs before the first token is served and then for
every one.
"""

from typing import Literal, NamedTuple

from qsopt.lifetimes.running import Running
from qsopt.lifetimes.training import Trainer
from qsopt.physics.training import PASSES, forward_flops
from qsopt.spec.model import Model

PlanName = Literal["moe", "dense", "distilled"]

WORDS = {
    "moe": "train the MoE and serve it",
    "dense": "train its dense match and serve it",
    "distilled": "train the MoE, distil it to the dense match, serve that",
}


class Training(NamedTuple):
    """Operations of everything that may be trained."""

    moe: float
    """The MoE [FLOP]."""
    dense: float
    """Its dense match, on the same tokens [FLOP]."""
    distillation: float
    """The match as a student: its own forward and backward, and the teacher's forward [FLOP]."""


def training(
    moe: Model, dense: Model, tokens: float, student_tokens: float, sequence: float
) -> Training:
    """Operations of training.

    Args:
        moe: the MoE.
        dense: its match.
        tokens: that both are trained on.
        student_tokens: that the match is distilled on.
        sequence: tokens of a training sequence.
    """
    teacher, student = (float(forward_flops(model, sequence)) for model in (moe, dense))
    return Training(
        PASSES * teacher * tokens,
        PASSES * student * tokens,
        (PASSES * student + teacher) * student_tokens,
    )


class LifetimePlan(NamedTuple):
    """One way to have a model."""

    name: PlanName
    training_flops: float
    """Of all training, distillation included [FLOP]."""
    distillation_flops: float
    """Of distillation alone [FLOP]."""
    fixed: float
    """Cost before the first token is served [US dollar]."""
    distillation: float
    """Of it, for distillation [US dollar]."""
    fixed_joules: float
    """Energy before the first token is served [J]."""
    running: Running
    """What serving costs."""


def plans(
    spent: Training, trainer: Trainer, moe: Running, dense: Running
) -> dict[str, LifetimePlan]:
    """The three ways by name.

    Args:
        spent: operations of training.
        trainer: what they cost.
        moe: serving the MoE.
        dense: serving its match.
    """

    def plan(name: PlanName, whole: float, student: float, running: Running) -> LifetimePlan:
        return LifetimePlan(
            name,
            whole,
            student,
            float(trainer.dollars(whole)),
            float(trainer.dollars(student)),
            float(trainer.joules(whole)),
            running,
        )

    return {
        "moe": plan("moe", spent.moe, 0.0, moe),
        "dense": plan("dense", spent.dense, 0.0, dense),
        "distilled": plan("distilled", spent.moe + spent.distillation, spent.distillation, dense),
    }
