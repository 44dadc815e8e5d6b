"""How throughput answers to every input: exact derivatives of a design, and of the largest batch
that its limits allow.

At a fixed deployment an elasticity is d log throughput / d log x. At the relaxed optimum the batch
B is real and fills the limit that binds, g(x, B) = 0 (memory, or time per token), so it moves with
x:

    d log throughput / d log x = f_x - f_B g_x / g_B

with f the log throughput and g the log of what is used over the limit, subscripts for derivatives
in logs (implicit function theorem: g stays 0, so dB/dx = -g_x / g_B). The same derivative in the
limit itself is its shadow price. Legal sizes stay as they are: a slope belongs to a design, and
says nothing of a jump to another layout.
"""

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.physics.evaluate import Metrics, compiled_metrics, timing
from qsopt.physics.memory import memory
from qsopt.physics.parameters import parameter_count
from qsopt.programs import compiled
from qsopt.record import Result
from qsopt.slopes.first_order import ShadowPrice, Slopes, elasticities, gradients
from qsopt.slopes.inputs import Design, Input, design_inputs, scaled
from qsopt.spec.deployment import Deployment
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import GB, MILLISECOND

MEMORY, TPOT = "memory", "tpot"
"""Limits of the batch."""

_CLOSE = 1e-13
"""Precision of the log of a batch."""


@dataclass(frozen=True, repr=False)
class Sensitivity(Result):
    """Slopes at a design as it is, and where its batch follows the limits."""

    fixed: Slopes
    """At the design as it is."""
    relaxed: Slopes | None
    """At the real batch that fills the binding limit; None where not even a batch near zero is
    allowed.
    """
    binding: str | None
    """The limit that sets the batch: memory, or tpot."""
    shadow_prices: tuple[ShadowPrice, ...]
    """At the relaxed optimum."""


def sensitivity(design: Design) -> Sensitivity:
    """Derivatives of the throughput of a concrete design."""
    inputs = design_inputs(design)
    fixed = _slopes(design, inputs, None)
    batches = limit_batches(design)
    binding = min(batches, key=lambda name: batches[name])
    if not 0.0 < batches[binding] < np.inf:
        return Sensitivity(fixed, None, None, ())
    at = at_batch(design, batches[binding])
    relaxed = _slopes(at, inputs, binding)
    return Sensitivity(fixed, relaxed, binding, _shadow_prices(at, relaxed, binding))


def at_batch(design: Design, batch: float) -> Design:
    """The design at another batch [sequences]."""
    return eqx.tree_at(lambda d: d.deployment.batch, design, np.asarray(float(batch)))


def design_metrics(design: Design) -> Metrics:
    """What a design reaches, by the function that evaluates single designs, which is compiled
    anyway.
    """
    return compiled_metrics(design.model, design.service, design.deployment)


# ---- derivatives ---------------------------------------------------------------------------------


def log_outputs(design: Design) -> Float[Array, " outputs"]:
    """Logs of throughput, of memory over capacity, and of time per token over its limit."""
    time = timing(design.model, design.service, design.deployment)
    needed = memory(design.model, design.service, design.deployment)
    used = needed.total / needed.capacity, time.tpot / design.service.workload.tpot_limit
    return jnp.log(jnp.stack([time.throughput, *used]))


LIMIT_ROWS = {MEMORY: 1, TPOT: 2}
"""Of each limit among the outputs of `log_outputs`."""


@partial(compiled, static=("inputs",))
def _outputs_and_slopes(design: Design, inputs: tuple[Input, ...]):
    """Log outputs, and their derivatives in the logs of the batch (last) and of every input; also
    of parameter counts.
    """

    def outputs(logs: Float[Array, " inputs"]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        moved = scaled(design, inputs, logs[:-1])
        moved = eqx.tree_at(
            lambda d: d.deployment.batch, moved, moved.deployment.batch * jnp.exp(logs[-1])
        )
        count = parameter_count(moved.model)
        logs_there = log_outputs(moved), jnp.log(jnp.stack([count.active, count.total]))
        return logs_there, logs_there

    slopes, values = jax.jacfwd(outputs, has_aux=True)(jnp.zeros(len(inputs) + 1))
    return values, slopes


def throughput_slope(design: Design, name: str) -> float:
    """d log throughput / d log of one input, at a fixed batch."""
    inputs = design_inputs(design)
    _, (slopes, _) = _outputs_and_slopes(design, inputs)
    return float(slopes[0][[given.name for given in inputs].index(name)])


def _slopes(design: Design, inputs: tuple[Input, ...], binding: str | None) -> Slopes:
    (logs, counts), (slopes, sizes) = jax.tree.map(np.asarray, _outputs_and_slopes(design, inputs))
    names, batch = [given.name for given in inputs], float(design.deployment.batch)
    found = elasticities(slopes, names, None if binding is None else LIMIT_ROWS[binding])
    values = {given.name: float(given.value(design)) for given in inputs} | {"batch": batch}
    if "experts" in names:
        share = float(np.exp(counts[0] - counts[1]))
        found |= _share_elasticities(found, dict(zip(names, sizes.T, strict=False)))
        found |= {"batch": found.pop("batch")} if binding is None else {}  # the batch stands last
        values |= dict.fromkeys(("s_at_fixed_total", "s_at_fixed_active"), share)
    throughput = float(np.exp(logs[0]))
    return Slopes(batch, throughput, found, gradients(found, values, throughput))


def _share_elasticities(
    elasticity: dict[str, float], sizes: dict[str, Float[np.ndarray, " counts"]]
) -> dict[str, float]:
    """Elasticities in s = N_active/N_total: by top_k at fixed total, and by experts at fixed active
    parameters.

    Both follow from the chain rule with s as the variable. The router grows with the experts, so
    top_k gives way a little to keep the active parameters.
    """
    (active_by_k, total_by_k), (active_by_e, total_by_e) = sizes["top_k"], sizes["experts"]
    give_way = active_by_e / active_by_k
    # d log s = d log N_active - d log N_total: along top_k, and along experts with top_k giving way
    share_by_k = active_by_k - total_by_k
    share_by_e = -(total_by_e - give_way * total_by_k)
    by_e = elasticity["experts"] - give_way * elasticity["top_k"]
    return {
        "s_at_fixed_total": float(elasticity["top_k"] / share_by_k),
        "s_at_fixed_active": float(by_e / share_by_e),
    }


# ---- the batch that the limits allow -------------------------------------------------------------


def limit_batches(design: Design) -> dict[str, float]:
    """The real batch that fills each limit that there is; not positive where nothing fits."""
    batches = {MEMORY: _memory_batch(design)}
    if float(design.service.workload.tpot_limit) < NO_LIMIT:
        batches[TPOT] = tpot_batch(design, _most(batches[MEMORY]))
    return batches


def _memory_batch(design: Design) -> float:
    """The real batch that fills the memory; not positive where the weights alone do not fit."""
    return float(design_metrics(design).memory.largest_batch) * float(design.deployment.batch)


def _most(batch: float) -> float:
    """Where a search for a batch may start."""
    return batch if 0.0 < batch < np.inf else 1.0


def tpot_batch(design: Design, most: float) -> float:
    """The real batch at which time per token, which rises with it, meets its limit; 0 if none does,
    infinite beyond `most`.
    """

    from scipy.optimize import root_scalar  # noqa: PLC0415  (slow to import)

    def excess(log_batch: float) -> float:
        return float(
            np.log(
                float(design_metrics(at_batch(design, np.exp(log_batch))).tpot)
                / float(design.service.workload.tpot_limit)
            )
        )

    low, high = np.log(most) - 40.0, np.log(most)
    if excess(high) < 0.0:
        return np.inf
    if excess(low) > 0.0:
        return 0.0
    return float(
        np.exp(
            root_scalar(excess, bracket=(low, high), method="brentq", xtol=_CLOSE, rtol=_CLOSE).root
        )
    )


def at_limit(design: Design) -> Deployment:
    """The deployment as it is, whose batch has the derivative of the real batch that fills the
    limit that binds.

    Whole batches leave a little room, so the limit that binds is the one that one Newton step in
    the log of the batch reaches first. At a batch with the log ratio g of what is used over that
    limit, dB/dx = -g_x / g_B (implicit function theorem), here as B exp((g - g(x)) / g_B) with g
    and g_B constant.
    """

    def ratios(log_batch: Scalar) -> Float[Array, " limits"]:
        moved = eqx.tree_at(
            lambda d: d.deployment.batch, design, design.deployment.batch * jnp.exp(log_batch)
        )
        return log_outputs(moved)[1:]

    zero = jnp.zeros(())
    used, slopes = jax.jvp(ratios, (zero,), (jnp.ones(()),))
    fixed, slopes = jax.lax.stop_gradient((used, slopes))
    moving = slopes > 0.0
    room = jnp.where(moving, -fixed / jnp.where(moving, slopes, 1.0), jnp.inf)
    first = jnp.argmin(room)
    change = (fixed - used)[first] / jnp.where(moving, slopes, jnp.inf)[first]
    batch = jax.lax.stop_gradient(design.deployment.batch) * jnp.exp(change)
    return eqx.tree_at(lambda d: d.batch, design.deployment, batch)


compiled_at_limit = compiled(at_limit)


# ---- shadow prices -------------------------------------------------------------------------------


def _shadow_prices(design: Design, slopes: Slopes, binding: str) -> tuple[ShadowPrice, ...]:
    """Prices per unit that people count in; 0 for a limit that does not bind."""
    capacity = slopes.gradient["capacity"] * GB if binding == MEMORY else 0.0
    prices = [ShadowPrice(MEMORY, capacity, "GB of device memory", binding == MEMORY)]
    if TPOT + "_limit" in slopes.gradient:
        price = slopes.gradient["tpot_limit"] * MILLISECOND if binding == TPOT else 0.0
        prices.append(ShadowPrice(TPOT, price, "ms of time per token", binding == TPOT))
    prices.append(
        ShadowPrice(
            "bandwidth", slopes.gradient["bandwidth"] * GB, "GB/s of memory bandwidth", True
        )
    )
    return tuple(prices)
