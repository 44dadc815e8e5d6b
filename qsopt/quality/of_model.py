"""From a model to what the quality laws see of it, and from a law to the q of its dense twin."""

import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.programs import evaluated
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.quality_law import DenseMatch, QualityLaw, Status
from qsopt.spec.model import Model, routed_layers

UNKNOWN_TOKENS = 1e12
"""Stands for training tokens that nobody stated, for laws that do not use them [tokens]."""


def architecture(model: Model, tokens: Scalar | None = None) -> MoeArchitecture:
    """What the quality laws see of an MoE.

    A model with several kinds of routed layers is described by the first.

    Args:
        model: the MoE.
        tokens: training tokens; laws that use them must not be asked where they are left out.

    Raises:
        InputError: if the model is dense.
    """
    purpose = "quality laws match Mixture-of-Experts models with dense ones"
    moe = routed_layers(model, purpose)
    count = compiled_parameter_count(model)
    return MoeArchitecture(
        total=count.total - count.resident,
        active=count.active,
        total_nonembedding=count.total_without_tables,
        active_nonembedding=count.active_without_tables,
        experts=moe.experts,
        top_k=moe.top_k,
        shared_experts=moe.shared_experts,
        hidden=model.hidden,
        expert_width=moe.width,
        tokens=UNKNOWN_TOKENS if tokens is None else tokens,
    )


@evaluated
def match_of(law: QualityLaw, seen: MoeArchitecture) -> DenseMatch:
    """The law's match, compiled once for all models."""
    return law.match(seen)


def checked_q(law: QualityLaw, seen: MoeArchitecture, tokens_known: bool) -> float:
    """The law's q as a number that means something.

    Raises:
        InputError: if the law needs training tokens that are not known, or its match is unphysical
            here.
    """
    if law.uses_tokens and not tokens_known:
        raise InputError(
            f"law '{law.name}' needs the training tokens of the model: give tokens, such as 14.8e12"
        )
    match = match_of(law, seen)
    if int(match.status) != Status.PHYSICAL:
        reason = next(text for text in law.warnings(seen) if text.startswith("unphysical"))
        raise InputError(f"law '{law.name}' is {reason}; choose another law, or give q itself")
    return float(np.asarray(match.q))


def law_warnings(law: QualityLaw, seen: MoeArchitecture, tokens_known: bool = True) -> list[str]:
    """What is wrong with asking a law about an architecture; nothing of training tokens where they
    are unknown.
    """
    found = law.warnings(seen)
    return found if tokens_known else [text for text in found if "training" not in text]
