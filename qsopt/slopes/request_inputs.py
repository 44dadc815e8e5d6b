"""A plan of serving requests, and the inputs that it may be asked to be sensitive to."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.record import Record
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.slopes.inputs import Input, leaf_input, named_inputs
from qsopt.slopes.inputs import scaled as by_logs
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT


class RequestDesign(Record):
    """A plan, and everything that what it serves depends on."""

    model: Model
    service: Service
    draft: Any
    plan: Plan
    """Its `tokens` do not count."""
    share: Scalar = number()
    """Prompt tokens of an attention rank in a forward that carries any, over those read of a
    prompt.
    """
    way: str = eqx.field(static=True, default="mixed")
    even: bool = eqx.field(static=True, default=False)
    """Whether each step reads as many tokens as a mean step needs, whatever the share."""
    real: bool = eqx.field(static=True, default=False)
    """Whether two pools have real numbers of replicas."""

    @property
    def served(self) -> Served:
        """What is served."""
        return Served(self.model, self.service, self.draft)


def _uncached(design: Any, factor: Scalar) -> Any:
    left = (1.0 - design.service.workload.cached) * factor
    return eqx.tree_at(lambda d: d.service.workload.cached, design, 1.0 - left)


_REQUESTS = (
    leaf_input("prompt", "token", lambda design: design.service.workload.prompt),
    leaf_input("answer", "token", lambda design: design.service.workload.answer),
    Input("uncached", "share", lambda design: 1.0 - design.service.workload.cached, _uncached),
)
_LOAD = leaf_input("load", "share", lambda design: design.service.workload.load)
_ACCEPTANCE = leaf_input("acceptance", "share", lambda design: design.service.workload.acceptance)
_LIMITS = {
    "ttft": leaf_input("ttft_limit", "s", lambda d: d.service.workload.ttft_limit),
    "tpot": leaf_input("tpot_limit", "s", lambda d: d.service.workload.tpot_limit),
}
_HARDWARE = (
    "bandwidth",
    "capacity",
    "peak_bf16",
    "peak_fp8",
    "scale_up_bandwidth",
    "scale_out_bandwidth",
    "launch_latency",
    "link_latency",
    "host_time",
)


def request_inputs(design: RequestDesign) -> tuple[Input, ...]:
    """The inputs that a plan's throughput may depend on: `uncached` is the share of the prompt that
    is not cached.
    """
    workload = design.service.workload
    some = [
        (_LOAD, float(workload.load) > 0.0),
        (_ACCEPTANCE, float(workload.tokens_per_step) > 1.0 and float(workload.acceptance) > 0.0),
        (_LIMITS["ttft"], float(workload.ttft_limit) < NO_LIMIT),
        (_LIMITS["tpot"], float(workload.tpot_limit) < NO_LIMIT),
    ]
    return (*_REQUESTS, *(one for one, there in some if there), *named_inputs(_HARDWARE))


def scaled(
    design: RequestDesign, inputs: tuple[Input, ...], logs: Float[Array, " inputs"]
) -> RequestDesign:
    """The design with the log of each input moved by an amount, and of the batch by the last."""
    moved: Any = by_logs(design, inputs, logs[:-1])  # pyright: ignore[reportArgumentType]
    batch = moved.plan.decode.batch * jnp.exp(logs[-1])
    return eqx.tree_at(lambda d: d.plan.decode.batch, moved, batch)
