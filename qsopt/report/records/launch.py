"""A way of serving as the command that launches it."""

import math

from qsopt.deployments.commands import Launch, launch_command, pool_commands
from qsopt.deployments.sizes import traits_of
from qsopt.deployments.stacks import RUNS, Layout
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import layout_of
from qsopt.serving.ranking import Option
from qsopt.spec.model import moe_layers
from qsopt.spec.rules import Stack

_SOFTWARE: tuple[Stack, ...] = tuple(stack for stack in RUNS if stack != "any")
"""In the order in which they are tried where nobody asked for one."""


def launch_record(option: Option, inquiry: Inquiry) -> dict[str, str | None]:
    """The software and the command that launch a plan, for two pools one command after the other;
    None where no software can run its layouts.

    The software is the one whose layouts were asked for, else the one whose efficiencies were, else
    the first that can run the plan.
    """
    stack = _stack(option, inquiry)
    return {"stack": stack, "command": None if stack is None else _command(stack, option, inquiry)}


def _stack(option: Option, inquiry: Inquiry) -> Stack | None:
    plan, traits = option.plan, traits_of(inquiry.model)
    layouts = {layout_of(plan.decode), layout_of(plan.prefill)}
    named = [name for name in (inquiry.service.rules.stack, inquiry.efficiency_name) if name]
    known: list[Stack] = [stack for stack in _SOFTWARE if {stack} & set(named)]
    shared = option.way != "disaggregated" and any(layout.dcp > 1 for layout in layouts)
    return next(
        (
            stack
            for stack in known or _SOFTWARE
            if all(RUNS[stack](layout, traits) for layout in layouts)
            and not (shared and stack == "trtllm")  # Helix is for a pool that writes
        ),
        None,
    )


def _command(stack: Stack, option: Option, inquiry: Inquiry) -> str:
    plan = option.plan
    if option.way != "disaggregated":
        return launch_command(stack, _launch(option, inquiry, layout_of(plan.decode)))
    pools = (
        _launch(option, inquiry, layout_of(plan.prefill), "prefill"),
        _launch(option, inquiry, layout_of(plan.decode), "decode"),
    )
    return "\n".join(pool_commands(stack, *pools))


def _launch(option: Option, inquiry: Inquiry, layout: Layout, phase: str = "both") -> Launch:
    plan, workload = option.plan, inquiry.service.workload
    assert workload.prompt is not None
    assert workload.answer is not None
    tokens = round(float(plan.tokens))
    reads = max(1, math.ceil(tokens / float(workload.read)))
    experts = moe_layers(inquiry.model)
    return Launch(
        model=inquiry.model_name or "MODEL",
        layout=layout,
        traits=traits_of(inquiry.model),
        batch=reads if phase == "prefill" else round(float(plan.decode.batch)),
        context=math.ceil(float(workload.prompt) + float(workload.answer)),
        tokens=None if phase == "decode" else tokens,
        experts=0 if experts is None else int(float(experts.experts)),
        phase=phase,  # pyright: ignore[reportArgumentType]  (one of the three)
        mixed=option.way == "mixed",
        utilization=float(workload.utilization),
    )
