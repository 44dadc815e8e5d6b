"""How the throughput of whole requests answers to every input: exact derivatives of one plan, and
of the largest batch that its limits allow.

At a given plan throughput, time to first token and time per token are functions of every number. At
the relaxed optimum the batch B is real and fills the limit that binds first (memory, time per
token, time to first token, or that prompts keep up), so it moves with an input x:

    d log throughput / d log x = f_x - f_B g_x / g_B

with f the log throughput and g the log of what is used over the limit (see `sensitivity`). Two
pools then have real numbers of replicas, devices/(n_r/X_r + n_w/X_w) requests/s, and it is the
batch of the pool that writes that follows the limits. Layouts and way stay as they are, and chunks
keep their share of the prompt: a slope says nothing of a jump to another plan.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.programs import compiled
from qsopt.record import Result
from qsopt.serving.disaggregated import reader, reading_pool, split_of, writing_pool
from qsopt.serving.metrics import of_one_pool, of_pools
from qsopt.serving.one_pool import BESIDE, alone, needed, one_pool
from qsopt.serving.plan import Plan
from qsopt.serving.queue import busiest
from qsopt.serving.replica import Served, held
from qsopt.slopes.first_order import ShadowPrice, Slopes, elasticities, gradients
from qsopt.slopes.inputs import Input
from qsopt.slopes.request_inputs import RequestDesign, request_inputs, scaled
from qsopt.units import GB, MILLISECOND

LIMITS = ("memory", "tpot", "ttft", "prompts")
"""Limits of the batch: prompts must be read as fast as answers end."""

TTFT, TPOT = 1, 2
"""Rows of `log_outputs` between that of the throughput and those of the limits."""

_WIDE, _HALVINGS = 40.0, 100


@dataclass(frozen=True, repr=False)
class RequestSensitivity(Result):
    """Slopes at a plan as it is, and where its batch follows the limits."""

    way: str
    """Of serving."""
    fixed: Slopes
    """At the plan as it is."""
    relaxed: Slopes | None
    """At the real batch that fills the binding limit; None where no batch does."""
    binding: str | None
    """The limit that sets the batch, of `LIMITS`."""
    shadow_prices: tuple[ShadowPrice, ...]
    """At the relaxed optimum."""
    ttft_elasticity: dict[str, float] = field(repr=False)
    """d log of time to first token / d log x by input, at the plan as it is."""
    tpot_elasticity: dict[str, float] = field(repr=False)
    """The same of time per output token."""


def request_design(served: Served, plan: Plan, way: str) -> RequestDesign:
    """The design of a plan: its chunk as a share of the prompt, or even steps."""
    read, tokens = float(served.service.workload.read), float(plan.tokens)
    layout = plan.decode if way in BESIDE else plan.prefill
    least = float(needed(served.service.workload, plan.decode))
    least /= float(busiest(served.service.workload.load))
    even = way == "mixed" and abs(tokens - least) <= 1e-9 * least
    share = np.asarray(tokens / (read * float(layout.data)))
    return RequestDesign(served.model, served.service, served.draft, plan, share, way, even)


def request_sensitivity(design: RequestDesign) -> RequestSensitivity:
    """Derivatives of what a concrete plan serves."""
    inputs = request_inputs(design)
    fixed, slopes = _slopes(design, inputs, None)
    names = [each.name for each in inputs]
    ttft, tpot = (dict(zip(names, map(float, slopes[row]), strict=False)) for row in (TTFT, TPOT))
    relaxed_design = replace(design, real=design.way == "disaggregated")
    batches = limit_batches(relaxed_design)
    binding = min(batches, key=lambda name: batches[name])
    if not 0.0 < batches[binding] < np.inf:
        return RequestSensitivity(design.way, fixed, None, None, (), ttft, tpot)
    relaxed, _ = _slopes(at_batch(relaxed_design, batches[binding]), inputs, binding)
    prices = _shadow_prices(relaxed, binding)
    return RequestSensitivity(design.way, fixed, relaxed, binding, prices, ttft, tpot)


def at_batch(design: RequestDesign, batch: float) -> RequestDesign:
    """The design at another batch [sequences]."""
    return eqx.tree_at(lambda d: d.plan.decode.batch, design, np.asarray(float(batch)))


# ---- derivatives ---------------------------------------------------------------------------------


def log_outputs(design: RequestDesign) -> Float[Array, " outputs"]:
    """Logs of throughput, time to first token and time per token, and of what is used over each of
    `LIMITS`.
    """
    served, workload = design.served, design.service.workload
    values = (_two_pools if design.way == "disaggregated" else _one_pool)(design, served)
    throughput, ttft, tpot, memory, prompts = values
    over = (memory, tpot / workload.tpot_limit, ttft / workload.ttft_limit, prompts)
    return jnp.log(jnp.stack([throughput, ttft, tpot, *over]))


def _one_pool(design: RequestDesign, served: Served) -> tuple[Scalar, ...]:
    workload, layout = design.service.workload, design.plan.decode
    if design.even:
        tokens = needed(workload, layout) / busiest(workload.load)
    else:
        tokens = design.share * workload.read * layout.data
    work = one_pool(served, layout, tokens, BESIDE[design.way])
    filled = held(served, layout, work.occupancy)
    reached = of_one_pool(served, Plan(layout, layout, tokens), work.pace, filled)
    prompts = jnp.maximum(work.pace.reading / busiest(workload.load), _NEVER)
    # in even steps prompts keep up by themselves
    prompts = jnp.full_like(prompts, _NEVER) if design.even else prompts
    return reached.throughput, reached.ttft, reached.tpot, filled.total / filled.capacity, prompts


def _two_pools(design: RequestDesign, served: Served) -> tuple[Scalar, ...]:
    workload, plan = design.service.workload, design.plan
    tokens = design.share * workload.read * plan.prefill.data
    reads, writes = reader(served, plan.prefill, tokens, plan.sharing), alone(served, plan.decode)
    memories = tuple(
        held(served, layout, work.occupancy)
        for layout, work in ((plan.decode, writes), (plan.prefill, reads))
    )
    whole = eqx.tree_at(lambda p: p.tokens, plan, tokens)
    reached = of_pools(served, whole, (reads.pace, writes.pace), memories)  # pyright: ignore[reportArgumentType]
    throughput = reached.throughput
    if design.real:
        one = reading_pool(served, plan.prefill, plan.sharing, reads.pace)
        other = writing_pool(served, plan.decode, writes.pace)
        devices = design.service.cluster.devices
        split = split_of(devices, one.rate, one.devices, other.rate, other.devices, jnp.ones(()))
        throughput = split.requests * workload.answer
    used = memories[0].total / memories[0].capacity
    return throughput, reached.ttft, reached.tpot, used, jnp.full_like(used, _NEVER)


_NEVER = 1e-30
"""What is used of a limit that nothing uses."""


@partial(compiled, static=("inputs",))
def _outputs_and_slopes(design: RequestDesign, inputs: tuple[Input, ...]):
    """Log outputs, and their derivatives in the logs of every input and of the batch (last)."""

    def outputs(logs: Float[Array, " inputs"]) -> tuple[Array, Array]:
        values = log_outputs(scaled(design, inputs, logs))
        return values, values

    slopes, values = jax.jacfwd(outputs, has_aux=True)(jnp.zeros(len(inputs) + 1))
    return values, slopes


def _slopes(
    design: RequestDesign, inputs: tuple[Input, ...], binding: str | None
) -> tuple[Slopes, Float[np.ndarray, "outputs inputs"]]:
    logs, slopes = map(np.asarray, _outputs_and_slopes(design, inputs))
    names, batch = [each.name for each in inputs], float(design.plan.decode.batch)
    found = elasticities(slopes, names, None if binding is None else _row(binding))
    values = {each.name: float(each.value(design)) for each in inputs} | {"batch": batch}  # pyright: ignore[reportArgumentType]
    throughput = float(np.exp(logs[0]))
    gradient = gradients(found, values, throughput)
    gradient["cached"] = -gradient["uncached"]
    return Slopes(batch, throughput, found, gradient), slopes


def _row(limit: str) -> int:
    return TPOT + 1 + LIMITS.index(limit)


# ---- the batch that the limits allow -------------------------------------------------------------


_compiled_outputs = compiled(log_outputs)


def limit_batches(design: RequestDesign) -> dict[str, float]:
    """The real batch that fills each limit: infinite where none does, 0 where nothing keeps it."""
    return {name: _limit_batch(design, _row(name)) for name in LIMITS}


def _limit_batch(design: RequestDesign, row: int) -> float:
    """By bisection in the log of the batch, as what is used of a limit does not fall with it."""

    def excess(log_batch: float) -> float:
        return float(_compiled_outputs(at_batch(design, np.exp(log_batch)))[row])

    low, high = -_WIDE / 2.0, _WIDE
    if not excess(high) > 0.0:
        return np.inf
    if excess(low) > 0.0:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if excess(middle) > 0.0 else (middle, high)
    return float(np.exp(low))


# ---- shadow prices -------------------------------------------------------------------------------


def _shadow_prices(slopes: Slopes, binding: str) -> tuple[ShadowPrice, ...]:
    """Prices per unit that people count in; 0 for a limit that does not bind."""
    units = {
        "memory": ("capacity", GB, "GB of device memory"),
        "tpot": ("tpot_limit", MILLISECOND, "ms of time per token"),
        "ttft": ("ttft_limit", MILLISECOND, "ms of time to first token"),
    }
    prices = [
        ShadowPrice(name, slopes.gradient[key] * unit * (name == binding), words, name == binding)
        for name, (key, unit, words) in units.items()
        if key in slopes.gradient
    ]
    free = {
        "cached": ("cached", 0.01, "point of cache hit rate"),
        "bandwidth": ("bandwidth", GB, "GB/s of memory bandwidth"),
        "scale_up": ("scale_up_bandwidth", GB, "GB/s of links inside a domain"),
        "scale_out": ("scale_out_bandwidth", GB, "GB/s of links between domains"),
    }
    prices += [
        ShadowPrice(name, slopes.gradient[key] * unit, words, True)
        for name, (key, unit, words) in free.items()
    ]
    return tuple(prices)
