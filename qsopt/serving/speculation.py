"""Speculative decoding: drafts that a step verifies, and what making them costs.

A step verifies n tokens of a sequence, of which (1 - a^n)/(1 - a) stand on average with acceptance
a (`Workload.accepted`); they hit fewer experts than n tokens of different sequences do
(`Efficiency.sequence_correlation`). The n - 1 drafts of a step are made one after the other, each a
forward of the draft for all sequences of the microbatch, on the devices of the last stage; the
draft reads prompts too, and holds weights and a cache of its own.
"""

import equinox as eqx

from qsopt import xp
from qsopt.arrays import Scalar, Softness, number, scalar
from qsopt.errors import InputError
from qsopt.physics.load import Load
from qsopt.physics.memory import Occupancy, memory, table_weights
from qsopt.physics.stage import Stage
from qsopt.record import Record
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.layers import DenseFfn, Layers, Stack
from qsopt.spec.model import Model
from qsopt.spec.service import Service


class Draft(Record):
    """What makes drafts."""

    model: Model
    """A small model of the same vocabulary, or one more layer (`next_token_layer`)."""
    own_tables: Scalar = number(1.0)
    """1 if it has embedding and head of its own, 0 if it uses the model's."""
    copies: Scalar = number(1.0)
    """Of it that are held: layers that make one draft of a step each."""


def next_token_layer(model: Model) -> Draft:
    """One multi-token-prediction layer of a model as its draft (DeepSeek-V3, arXiv 2412.19437).

    A layer of the kind of the model's last one, which joins the last hidden state and the next
    token's embedding by a projection of 2h x h; embedding and head are the model's. All layers
    that the config states are held (`Model.draft_layers`), each draft runs one of them; a model
    without any is taken to have one.
    """
    attention, ffn = model.decoder.attention[-1].kind, model.decoder.ffn[-1].kind
    joined = DenseFfn(width=model.hidden, matrices=2.0)
    stack = Stack((Layers(1.0, attention),), (Layers(1.0, ffn), Layers(1.0, joined)))
    layer = eqx.tree_at(
        lambda m: (m.decoder, m.layers, m.encoder),
        model,
        (stack, scalar(1.0), None),
        is_leaf=lambda x: x is None,
    )
    return Draft(layer, 0.0, xp.maximum(model.draft_layers, 1.0))


def drafted_by(model: Model) -> str:
    """What makes drafts where no model is named for it, in words."""
    count = round(float(model.draft_layers))
    if count:
        return f"{count} prediction layer{'s' if count > 1 else ''} of the model's config"
    return "one more layer, which the model's config does not have"


def check_draft(model: Model, draft: Draft) -> None:
    """Refuse a draft that speaks another vocabulary.

    Raises:
        InputError: if it does.
    """
    ours, theirs = float(model.vocabulary), float(draft.model.vocabulary)
    if abs(ours - theirs) > _PADDING * ours:
        raise InputError(
            f"the draft's vocabulary has {theirs:,.0f} tokens and the model's {ours:,.0f}: take a "
            f"draft of the same tokenizer"
        )


_PADDING = 0.02
"""Tables of one tokenizer differ by padding, as a share of their rows."""


def draft_stage(draft: Draft, stage: Stage, load: Load) -> Stage:
    """The devices of one stage that run the draft on a load."""
    alone = _one_stage(stage.deployment)
    return eqx.tree_at(lambda s: (s.model, s.load, s.deployment), stage, (draft.model, load, alone))


def draft_bytes(
    draft: Draft,
    service: Service,
    deployment: Deployment,
    occupancy: Occupancy,
    world: Counterfactual,
    softness: Softness,
) -> Scalar:
    """Weights of the draft and its cache, on a device of the last stage [byte]."""
    alone = _one_stage(deployment)
    held = memory(draft.model, service, alone, world, softness, occupancy)
    shared = (1.0 - draft.own_tables) * table_weights(draft.model, alone)
    return draft.copies * (held.weights + held.kv_cache - shared)


def _one_stage(deployment: Deployment) -> Deployment:
    """The devices of one stage, which drafts are made on."""
    return eqx.tree_at(lambda d: d.pipeline, deployment, xp.ones_like(deployment.tensor))
