"""From the first training token to the last one served."""

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    answered,
    as_service,
    inquire_match,
    ruled,
    stated,
)
from qsopt.catalog.accelerators import load_accelerator
from qsopt.comparison.dense import Twin
from qsopt.comparison.shapes import MatchAttention
from qsopt.lifetimes.lifetime import Lifetime
from qsopt.lifetimes.training import MFU, SEQUENCE, trainer
from qsopt.precision import in_float64
from qsopt.quality.belief import DEFAULT
from qsopt.report.lifetime_question import answer_of, question
from qsopt.report.records.lifetime import lifetime_record
from qsopt.spec.hardware import Accelerator
from qsopt.spec.rules import LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_answer_of = in_float64(answer_of)


def lifetime(
    model: AnyModel,
    cluster: AnyCluster | Service,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    q: float | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    training: Accelerator | str | None = None,
    mfu: float = MFU,
    sequence: float = SEQUENCE,
    student_share: float | None = None,
    seed: int = 0,
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    dense: AnyModel | None = None,
    law_raw: bool = False,
    stack: Stack = "any",
) -> Lifetime:
    """Whether to train an MoE and serve it, its dense match, or a match that the MoE was distilled
    to: what each costs before the first token is served and for every one, and the served tokens at
    which the order changes.

    Args:
        model: the MoE, or its name.
        cluster: that serves: a cluster, a phrase such as `8xh100`, or a whole service.
        workload: prompt and answer, or a context for decode alone, and limits.
        efficiency: a set, or the name of one (see `load_efficiency`).
        q: size factor of the dense match, instead of a law.
        law: the quality law that gives q; `all` for the default one with all others beside it.
        tokens: training tokens; those of the catalog if left out.
        training: accelerator that trains, or its name; the one that serves if left out.
        mfu: share of its bf16 peak that the operations of the model reach over the whole run.
        sequence: tokens of a training sequence.
        student_share: tokens of distillation over those of training; between 1/40 and all if left
            out, as no law says more.
        seed: of the draws.
        twin: shape of the dense match, `released` or `same-body`.
        twin_attention: of a match of released shape, `same` or `gqa8`.
        dense: a dense model that exists, or its name, instead; q becomes a result.
        law_raw: take the bare law's q, not the calibrated median.
        stack: software whose layouts count.

    Raises:
        InputError: if a name is unknown, the model has no routed experts, the training tokens or a
            price are not known, or nothing can be served.
    """
    service = ruled(as_service(cluster, workload, efficiency), workload, LayoutRules(stack=stack))
    how = {"law": law, "q": stated(q), "tokens": tokens, "law_raw": law_raw}
    inquiry = inquire_match(model, cluster, service, twin, twin_attention, dense, **how)
    chip = service.cluster.accelerator if training is None else training
    chip = load_accelerator(chip) if isinstance(chip, str) else chip
    asked = question(inquiry, trainer(chip, mfu, sequence), student_share, seed)
    return answered(_answer_of(inquiry, asked), lifetime_record, inquiry=inquiry, asked=asked)
