"""Generations of accelerators whose kernels are alike: what one that nobody measured has in common
with its siblings.

Kernels are written for a generation's matrix instructions: those of Hopper (wgmma, compute
capability 9.0) and of Blackwell with HBM (tcgen05, 10.0 and 10.3) run on no other; Blackwell with
GDDR (12.0) has the instructions of Ampere instead. Source: NVIDIA, PTX ISA, target notes of `wgmma`
and `tcgen05`.
"""

from functools import cache

from qsopt.catalog.accelerators import accelerator_names, hardware_facts

_TOGETHER = {"Blackwell Ultra": "Blackwell"}
"""Architectures by the one whose instructions they share."""


@cache
def generation(accelerator: str) -> str:
    """The generation of an accelerator of the catalog; any other is one of its own."""
    if accelerator not in accelerator_names():
        return accelerator
    facts = hardware_facts(accelerator)
    name = facts.architecture or accelerator
    name = _TOGETHER.get(name, name)
    graphics = name == "Blackwell" and not (facts.memory_kind or "").startswith("HBM")
    return "blackwell-gddr" if graphics else name.lower()
