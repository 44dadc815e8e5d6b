"""How throughput answers to every input: exact derivatives of a design, and of the largest batch
that its limits allow.

At a fixed deployment an elasticity is d log throughput / d log x. At the relaxed optimum the batch
B is real and fills the limit that binds, g(x, B) = 0 (memory, or time per token), so it moves with
x:

    d log throughput / d log x = f_x - f_B g_x / g_B

(implicit function theorem). The same derivative in the limit itself is its shadow price. Legal
sizes stay as they are: what is told is the slope at a design, not a jump to another layout.
"""

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.physics.accounting import parameter_count
from qsopt.physics.evaluate import Metrics, compiled_metrics, timing
from qsopt.physics.memory import memory
from qsopt.record import Result
from qsopt.sensitivity.inputs import Design, Input, inputs_of, scaled
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import GB, MILLISECOND

MEMORY, TPOT = "memory", "tpot"
"""Limits of the batch."""

_CLOSE = 1e-13
"""Precision of the log of a batch."""


@dataclass(frozen=True)
class Slopes:
    """First-order answer of the throughput of one design."""

    batch: float
    """Sequences of a replica, real at the relaxed optimum."""
    throughput: float
    """At that batch [tokens/s]."""
    elasticity: dict[str, float]
    """d log throughput / d log x by input."""
    gradient: dict[str, float]
    """d throughput / d x by input [tokens/s over the input's unit]."""


@dataclass(frozen=True)
class ShadowPrice:
    """What one more unit of a limited resource is worth."""

    constraint: str
    multiplier: float
    """[tokens/s of the whole cluster over `unit`]."""
    unit: str
    active: bool
    """Whether the design uses all of it."""


@dataclass(frozen=True, repr=False)
class Sensitivity(Result):
    """Slopes at a design as it is, and where its batch follows the limits."""

    fixed: Slopes
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
    inputs = inputs_of(design)
    fixed = _slopes(design, inputs, None)
    batches = {MEMORY: _memory_batch(design)}
    if float(design.service.workload.tpot_limit) < NO_LIMIT:
        batches[TPOT] = tpot_batch(design, _most(batches[MEMORY]))
    binding = min(batches, key=lambda name: batches[name])
    if not 0.0 < batches[binding] < np.inf:
        return Sensitivity(fixed, None, None, ())
    at = at_batch(design, batches[binding])
    relaxed = _slopes(at, inputs, binding)
    return Sensitivity(fixed, relaxed, binding, _shadow_prices(at, relaxed, binding))


def at_batch(design: Design, batch: float) -> Design:
    """The design at another batch [sequences]."""
    return eqx.tree_at(lambda d: d.deployment.batch, design, np.asarray(float(batch)))


def relaxed_throughput(design: Design) -> float:
    """Throughput at the real batch that fills the first limit to bind, 0 where there is none
    [tokens/s].
    """
    most = _memory_batch(design)
    if float(design.service.workload.tpot_limit) < NO_LIMIT:
        most = min(most, tpot_batch(design, _most(most)))
    return float(reached(at_batch(design, most)).throughput) if 0.0 < most < np.inf else 0.0


def reached(design: Design) -> Metrics:
    """Metrics of a design, by the function that evaluates single designs, which is compiled
    anyway.
    """
    return compiled_metrics(design.model, design.service, design.deployment)


# ---- derivatives ---------------------------------------------------------------------------------


def _log_outputs(design: Design) -> Float[Array, " outputs"]:
    """Logs of throughput, of memory over capacity, and of time per token over its limit."""
    time = timing(design.model, design.service, design.deployment)
    held = memory(design.model, design.service, design.deployment)
    return jnp.log(
        jnp.stack(
            [
                time.throughput,
                held.total / held.capacity,
                time.tpot / design.service.workload.tpot_limit,
            ]
        )
    )


_ROW = {MEMORY: 1, TPOT: 2}


@partial(jax.jit, static_argnums=1)
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
        found = _log_outputs(moved), jnp.log(jnp.stack([count.active, count.total]))
        return found, found

    slopes, found = jax.jacfwd(outputs, has_aux=True)(jnp.zeros(len(inputs) + 1))
    return found, slopes


def throughput_slope(design: Design, name: str) -> float:
    """d log throughput / d log of one input, at a fixed batch."""
    inputs = inputs_of(design)
    _, (slopes, _) = _outputs_and_slopes(design, inputs)
    return float(slopes[0][[each.name for each in inputs].index(name)])


def _slopes(design: Design, inputs: tuple[Input, ...], binding: str | None) -> Slopes:
    (logs, counts), (slopes, sizes) = jax.tree.map(np.asarray, _outputs_and_slopes(design, inputs))
    elasticity = slopes[0]
    if binding is not None:  # the batch follows the limit that binds
        limit = slopes[_ROW[binding]]
        elasticity = elasticity - elasticity[-1] * limit / limit[-1]
    names = [each.name for each in inputs]
    found = dict(zip(names, map(float, elasticity), strict=False))
    values = {each.name: float(each.value(design)) for each in inputs}
    if "experts" in names:
        share = float(np.exp(counts[0] - counts[1]))
        found |= _of_share(found, dict(zip(names, sizes.T, strict=False)))
        values |= dict.fromkeys(("s_at_fixed_total", "s_at_fixed_active"), share)
    if binding is None:
        found["batch"], values["batch"] = float(elasticity[-1]), float(design.deployment.batch)
    throughput = float(np.exp(logs[0]))
    gradient = {
        name: slope * throughput / values[name] if values[name] else 0.0
        for name, slope in found.items()
    }
    return Slopes(float(design.deployment.batch), throughput, found, gradient)


def _of_share(
    elasticity: dict[str, float], sizes: dict[str, Float[np.ndarray, " counts"]]
) -> dict[str, float]:
    """Elasticities in s = N_active/N_total: by top_k at fixed total, and by experts at fixed active
    parameters.

    The router grows with the experts, so top_k gives way a little to keep the active parameters.
    """
    (active_by_k, total_by_k), (active_by_e, total_by_e) = sizes["top_k"], sizes["experts"]
    give_way = active_by_e / active_by_k
    total = total_by_e - give_way * total_by_k
    return {
        "s_at_fixed_total": float(elasticity["top_k"] / (active_by_k - total_by_k)),
        "s_at_fixed_active": float(
            (elasticity["experts"] - give_way * elasticity["top_k"]) / -total
        ),
    }


# ---- the batch that the limits allow -------------------------------------------------------------


def _memory_batch(design: Design) -> float:
    """The real batch that fills the memory; not positive where the weights alone do not fit."""
    return float(reached(design).memory.largest_batch) * float(design.deployment.batch)


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
                float(reached(at_batch(design, np.exp(log_batch))).tpot)
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
