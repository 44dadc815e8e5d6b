"""What a server keeps in memory beside weights and cache, and what its utilization is a share of.

At its start a server runs the largest forward that it may get, so many prompt tokens and so many
sequences to sample for, and sets aside what that needed; some pad weights for their kernels.

| software | its knob | is a share of | and covers |
|---|---|---|---|
| vLLM | `gpu_memory_utilization` | the device's memory | weights, reserve, activations, cache |
| SGLang | `mem_fraction_static` | what is free before weights are loaded | weights, cache |
| TensorRT-LLM | `free_gpu_memory_fraction` | what weights and activations leave | cache |

Sources: the engine arguments of docs.vllm.ai, the server arguments of docs.sglang.ai,
`KvCacheConfig` of nvidia.github.io/TensorRT-LLM.
"""

import equinox as eqx
import numpy as np

from qsopt.arrays import Scalar, Table, number, scalar
from qsopt.record import Record
from qsopt.spec.formats import FORMATS


def _none() -> np.ndarray:
    return np.zeros(len(FORMATS))


class ServerMemory(Record):
    """The default adds nothing, and takes utilization as the share of memory that may be used."""

    communication: Scalar = number(0.0)
    """Buffers of collectives, for each doubling of the devices of a replica [byte]."""
    prompt_tokens: Scalar = number(0.0)
    """Prompt tokens of the forward that an attention rank runs at its start [tokens]."""
    sequences: Scalar = number(0.0)
    """Sequences that it samples for in that forward."""
    logit_bytes: Scalar = number(0.0)
    """Held for each logit while sampling: wide copies, and values and places of a sort [byte]."""
    large_memory: Scalar = number(0.0)
    """Devices with less memory than this start with a share of these tokens and sequences [byte].
    """
    small_share: Scalar = number(1.0)
    """That share."""
    whole_tables: Scalar = number(0.0)
    """1 if every attention data rank holds input table and head whole, 0 if all devices of a stage
    share them.
    """
    pool_only: Scalar = number(0.0)
    """1 if utilization is the share of weights and cache alone, of what is free before weights are
    loaded; activations take the rest.
    """
    of_free: Scalar = number(0.0)
    """1 if utilization is the cache's share of what weights, reserve and activations leave."""
    hidden_multiple: Table = eqx.field(default_factory=_none, converter=scalar)
    """What kernels round the hidden size of experts up to, by format; 0 if they do not."""
    width_multiple: Table = eqx.field(default_factory=_none, converter=scalar)
    """The same of an expert's columns on one device."""
    pad_bytes: Scalar = number(0.0)
    """Added to rows of experts in bf16 whose length is a multiple of `ALIASED_BYTES` [byte]."""
    spread: Scalar = number(0.0)
    """Standard deviation of what a device can use about all of this; 0 if not known [byte]."""


ALIASED_BYTES = 512.0
"""Rows of this length, or a multiple, fall on the same memory channels of AMD accelerators [byte]
(vLLM pull request 14454).
"""
