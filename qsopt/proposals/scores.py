"""What many designs reach: rows of an architecture, a layout in one way of serving with one chunk,
and a limit on the time per token, each at its largest batch that keeps the limits.

By the formulas of `serving` (one trial is `serving.trial.trial`), for any mixture of architectures
and layouts in one compiled call. A batch is found between what is known to be allowed and what is
not: where time per token breaks its limit, time over batch never rises, so a batch u with time t
bounds the largest by u limit/t; that bound and the middle are tried in turn.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import chunks, length, pad_to
from qsopt.deployments.legality import (
    allows_experts,
    shares_cache,
    splits_heads,
    splits_kv_heads,
    with_places,
)
from qsopt.physics import placement
from qsopt.programs import compiled
from qsopt.proposals.architecture import built, from_rows
from qsopt.proposals.bodies import Body
from qsopt.proposals.boxes import Table
from qsopt.serving.candidates import Candidates
from qsopt.serving.disaggregated import transfer
from qsopt.serving.replica import Served
from qsopt.serving.trial import most_units, trial
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, moe_group
from qsopt.spec.service import Service

AT_ONCE = 1024
"""Rows of one call; the last is filled up."""

INPUTS = (
    "bandwidth",
    "memory",
    "compute",
    "scale_up_bandwidth",
    "scale_out_bandwidth",
    "prompt",
    "answer",
    "ttft_limit",
)
"""Inputs of a service that a row may have more or less of."""

MOST_ROUNDS = 64
"""Trials of a row at most: a batch of 2^32 is bisected in 32, with every second a bound."""


class Designs(NamedTuple):
    """Rows to be scored."""

    architecture: Float[np.ndarray, "rows columns"]
    candidate: Candidates
    """Layout, way and chunk of each."""
    limit: Float[np.ndarray, " rows"]
    """On the time per token [s]."""
    factors: Float[np.ndarray, "rows inputs"]
    """On the inputs of the service (see `INPUTS`)."""


class Scores(NamedTuple):
    """What each row reaches."""

    value: Float[np.ndarray, " rows"]
    """Output tokens of the cluster [tokens/s]; of a pool's replica its requests [1/s]; 0 where
    nothing is allowed.
    """
    units: Float[np.ndarray, " rows"]
    """Its batch, in units of pipeline * data sequences."""
    ttft: Float[np.ndarray, " rows"]
    """Time to first token, without moving the cache [s]."""
    tpot: Float[np.ndarray, " rows"]
    """Time per output token [s]."""
    devices: Float[np.ndarray, " rows"]
    """Devices that a replica takes."""
    moving: Float[np.ndarray, " rows"]
    """What moving the cache of a prompt over one device's link adds to the first token [s]."""


def scored(designs: Designs, service: Service, body: Body, decode_alone: bool = False) -> Scores:
    """What rows of architectures reach.

    Args:
        designs: the rows; of decode alone, writers.
        service: cluster, workload of requests, efficiencies.
        body: what the architectures have in common.
        decode_alone: whether prompts come from elsewhere, so that a writer has the whole cluster.
    """
    return _in_parts(designs, lambda part: _of_rows(part, service, body, decode_alone))


def scored_model(
    model: Model, designs: Designs, service: Service, decode_alone: bool = False
) -> Scores:
    """What one model reaches in rows of candidates; their architectures are not used."""
    return _in_parts(designs, lambda part: _of_model(model, part, service, decode_alone))


def _in_parts(designs: Designs, score) -> Scores:
    parts = [
        jax.tree.map(np.asarray, score(pad_to(part, AT_ONCE))) for part in chunks(designs, AT_ONCE)
    ]
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return jax.tree.map(lambda leaf: leaf[: length(designs)], whole)


@partial(compiled, static=("body", "decode_alone"))
def _of_rows(designs: Designs, service: Service, body: Body, decode_alone: bool) -> Scores:
    def model(row: Any) -> Model:
        return built(from_rows(row), body)

    return _largest(designs, jax.vmap(model)(designs.architecture), 0, service, decode_alone)


@partial(compiled, static=("decode_alone",))
def _of_model(model: Model, designs: Designs, service: Service, decode_alone: bool) -> Scores:
    return _largest(designs, model, None, service, decode_alone)


class _Reached(NamedTuple):
    """What is known of a row at a batch."""

    allowed: Array
    value: Array
    tpot: Array
    ttft: Array


class _State(NamedTuple):
    low: Array
    """Units that are allowed, 0 where none are known."""
    high: Array
    """Units that are not, or more than fit."""
    guess: Array
    """Units below `high` that bound the largest."""
    turn: Array
    best: _Reached
    """At `low`."""


def _largest(
    designs: Designs, models: Model, axis: int | None, service: Service, decode_alone: bool
) -> Scores:
    """The rows at their largest allowed batch."""
    services = jax.vmap(lambda limit, factors: changed(service, limit, factors))(
        designs.limit, designs.factors
    )
    layouts = jax.vmap(lambda model, one: with_places(model, one, service.rules), (axis, 0))(
        models, designs.candidate.layout
    )
    placed = designs.candidate._replace(layout=layouts)

    def most(model: Model, one: Candidates, on: Service) -> Scalar:
        units = most_units(Served(model, on), one)
        return jnp.where(_is_legal(model, one.layout, on), units, 0.0)

    def attempt(model: Model, one: Candidates, on: Service, units: Scalar) -> tuple:
        made = trial(Served(model, on), one, jnp.maximum(units, 1.0))
        known = (made.value, made.pace.unit.seconds, made.pace.ttft(on.workload))
        return _Reached(made.allowed, *known), made.allowed | made.too_small

    top = jax.vmap(most, (axis, 0, 0))(models, placed, services)
    each = jax.vmap(attempt, (axis, 0, 0, 0))

    def active(state: _State) -> Bool[Array, " rows"]:
        return state.high - state.low > 1.0

    def step(state: _State) -> _State:
        middle = jnp.floor(0.5 * (state.low + state.high))
        inside = (state.guess > state.low) & (state.guess < state.high)
        units = jnp.where(inside & (state.turn % 2 == 0), state.guess, middle)
        made, up = each(models, placed, services, units)
        return _narrowed(state, units, made, up & active(state), ~up & active(state), designs.limit)

    none = jnp.zeros_like(top)
    blank = _Reached(jnp.zeros(top.shape, bool), none, none, none)
    start = _State(none, top + 1.0, top, jnp.zeros((), int), blank)
    end = lax.while_loop(
        lambda state: jnp.any(active(state)) & (state.turn < MOST_ROUNDS), step, start
    )
    return _scores(layouts, end, (models, axis), services, decode_alone)


def _narrowed(
    state: _State, units: Array, made: _Reached, up: Array, down: Array, limit: Any
) -> _State:
    """The state after a trial of rows whose batch may grow, or must shrink."""
    late = made.tpot > limit
    bound = jnp.where(late, jnp.floor(units * limit / jnp.where(late, made.tpot, 1.0)), units - 1.0)
    taken = up & made.allowed
    return _State(
        low=jnp.where(up, units, state.low),
        high=jnp.where(down, units, state.high),
        guess=jnp.where(down, bound, state.guess),
        turn=state.turn + 1,
        best=jax.tree.map(lambda new, old: jnp.where(taken, new, old), made, state.best),
    )


def _is_legal(model: Model, layout: Deployment, service: Service) -> Bool[Array, ""]:
    group = moe_group(model)
    legal = splits_heads(model, layout.tensor) & splits_kv_heads(model, layout.tensor)
    legal &= shares_cache(model, layout.tensor, layout.dcp) & (layout.pipeline <= model.layers)
    if group is None:
        return legal & (layout.expert == 1)
    routed = group.count > 0.0
    return legal & jnp.where(
        routed, allows_experts(model, layout.expert, service.rules), layout.expert == 1
    )


def _scores(
    layout: Deployment,
    end: _State,
    models: tuple[Model, int | None],
    services: Service,
    decode_alone: bool,
) -> Scores:
    """What the rows reach at the end of the search."""
    value, tpot = end.best.value, end.best.tpot
    if decode_alone:
        batch = end.low * layout.pipeline * layout.data
        value = jax.vmap(_replicas)(services, layout) * batch / jnp.where(tpot > 0, tpot, 1.0)
    reached = end.best.allowed & (end.low >= 1.0)
    known: Any = {
        "value": jnp.where(reached, value, 0.0),
        "units": jnp.where(reached, end.low, 0.0),
        "ttft": end.best.ttft,
        "tpot": tpot,
    }
    return Scores(
        **known,
        devices=jax.vmap(_devices)(services, layout),
        moving=jax.vmap(_moving, (models[1], 0))(models[0], services),
    )


def _replicas(service: Service, layout: Deployment) -> Scalar:
    return placement.replicas(service.cluster, layout, service.rules.whole_domains)


def _devices(service: Service, layout: Deployment) -> Scalar:
    return placement.taken(service.cluster, layout, service.rules.whole_domains, 0.0)


def _moving(model: Model, service: Service) -> Scalar:
    """What moving the cache of a prompt over one device's link adds to the first token [s]."""
    served = Served(model, service)
    return transfer(served, jnp.ones(()))


def changed(service: Service, limit: Scalar, factors: Float[Array, " inputs"]) -> Service:
    """The service with another limit on the time per token, and more or less of its inputs."""
    return eqx.tree_at(
        lambda s: [*_inputs(s), s.workload.tpot_limit],
        service,
        [*(one * by for one, by in zip(_inputs(service), factors, strict=True)), limit],
    )


def _inputs(service: Service) -> list[Scalar]:
    """In the order of `INPUTS`."""
    chip, workload = service.cluster.accelerator, service.workload
    return [
        chip.bandwidth,
        chip.memory_bytes,
        chip.peak_flops,
        chip.scale_up_bandwidth,
        chip.scale_out_bandwidth,
        workload.prompt,
        workload.answer,
        workload.ttft_limit,
    ]


def rows_of(
    architecture: Table, candidate: Candidates, limit: Float[np.ndarray, " rows"] | float
) -> Designs:
    """Rows with the inputs as they are."""
    count = len(architecture)
    limits = np.broadcast_to(np.asarray(limit, float), (count,)).copy()
    return Designs(architecture, candidate, limits, np.ones((count, len(INPUTS))))
