"""Which layouts may be taken: the freedoms of a deployment, and the software that has to run it."""

from dataclasses import dataclass
from typing import Literal, get_args

from qsopt.errors import InputError

Stack = Literal["any", "vllm", "sglang", "trtllm"]
"""Serving software; `any` for every layout that the model and the cluster allow."""

STACKS: tuple[str, ...] = get_args(Stack)

ANY = None
"""A freedom that the search may use as it likes."""

NO_SLOTS = 0
"""As many places for experts as experts, which the expert parallel size divides."""


@dataclass(frozen=True)
class LayoutRules:
    """What a search over layouts is free to do. Both sides of a comparison get the same rules."""

    dcp: int | None = ANY
    """Decode context parallel size; 1 for none."""
    expert_slots: int | None = ANY
    """Places for experts on all ranks: so many, `NO_SLOTS`, or as many as fill every rank evenly.
    """
    stack: Stack = "any"
    """Software whose layouts count."""
    whole_domains: bool = True
    """Whether groups of ranks are packed into whole scale-up domains, or devices alone count."""

    def __post_init__(self) -> None:
        if self.stack not in STACKS:
            raise InputError(f"stack = {self.stack}: take one of {', '.join(STACKS)}")
        if self.dcp is not None and self.dcp < 1:
            raise InputError(f"dcp = {self.dcp}: give 1 for none, or the ranks that share a cache")
        if self.expert_slots is not None and self.expert_slots < 0:
            raise InputError(f"expert_slots = {self.expert_slots}: give none, any, or a number")


EVERY = LayoutRules()
"""All freedoms, any software."""

PLAIN = LayoutRules(dcp=1, expert_slots=NO_SLOTS, whole_domains=False)
"""No context parallelism, no redundant experts, and any devices make a group."""
