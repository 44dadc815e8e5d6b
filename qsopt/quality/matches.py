"""Observed matches: an MoE and the dense model that was found, or is claimed, to equal it.

q_obs = dense parameters / active parameters, both with all tables unless the row says otherwise. Counts are the
published, rounded ones; non-embedding counts subtract the tables. What a source did not state is named in
`assumptions`. Three of the rows that laws are judged by come from the laboratory that fitted Tian's law, two from
DeepSeek: they are fewer independent facts than rows.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import scalar
from qsopt.quality.architecture import MoeArchitecture, stack


class Kind(enum.StrEnum):
    """How much a match proves."""

    CONTROLLED = "controlled"
    """Both trained by one laboratory on the same data for the comparison."""
    FAMILY = "same family"
    """Both from one generation of models on the same data."""
    VENDOR = "vendor"
    """The maker's statement about a dense model of its class, often of another maker."""
    CROSS = "cross-vendor"
    """Two makers, different data and tokens: not a measurement of the architecture."""


@dataclass(frozen=True)
class Match:
    """One MoE and its dense equal."""

    moe: str
    dense: str
    dense_parameters: float
    """Size of the dense model [parameters]."""
    kind: Kind
    laboratory: str
    """Who made the MoE: rows of one laboratory are not independent."""
    architecture: MoeArchitecture
    source: str
    assumptions: str = ""
    lower_bound: bool = False
    """Whether the MoE is better than the dense model, so that q is at least q_obs."""

    @property
    def q(self) -> float:
        """q_obs."""
        return self.dense_parameters / float(self.architecture.active)


class Observations(eqx.Module):
    """Matches as arrays, to be mapped over."""

    architecture: MoeArchitecture
    q: Float[Array, " n"] = eqx.field(converter=scalar)


def observations(matches: Sequence[Match]) -> Observations:
    """The rows as arrays."""
    return Observations(stack([m.architecture for m in matches]), np.array([m.q for m in matches]))


def _moe(
    total: float,
    active: float,
    tables: float,
    experts: int,
    top_k: int,
    shared: int,
    hidden: int,
    width: int,
    tokens: float,
) -> MoeArchitecture:
    """An architecture from sizes in units of 1e9 parameters and 1e12 tokens; `tables` are embedding and output."""
    counts = (1e9 * total, 1e9 * active, 1e9 * (total - tables), 1e9 * (active - tables))
    return MoeArchitecture(*counts, experts, top_k, shared, hidden, width, 1e12 * tokens)


MATCHES = (
    Match(
        "Ling-mini-beta", "Ling Dense-6.1B", 6.11e9, Kind.CONTROLLED, "Ling", _moe(17.5, 0.855, 0, 384, 12, 1, 2048, 384, 1),
        "Tian et al. 2025, arXiv 2507.17702: the same 1T tokens",
        "counts taken to exclude tables: 20 layers of these sizes give them without",
    ),
    Match(
        "DeepSeekMoE-16B", "DeepSeek-7B", 6.9e9, Kind.CONTROLLED, "DeepSeek", _moe(16.4, 2.8, 0.419, 64, 6, 2, 2048, 1408, 2),
        "Dai et al. 2024, arXiv 2401.06066: about 40 % of the compute on the same 2T tokens",
    ),
    Match(
        "DeepSeekMoE-145B", "DeepSeek-67B", 67.4e9, Kind.CONTROLLED, "DeepSeek",
        _moe(144.6, 22.2, 0.839, 128, 12, 4, 4096, 1408, 0.245),
        "Dai et al. 2024, arXiv 2401.06066: 28.5 % of the compute (maybe 18.2 %) at 245e9 tokens",
        "counts and layout recalled; expert width 1408 because with 62 layers it gives both counts",
    ),
    Match(
        "Qwen3-30B-A3B", "Qwen3-14B base", 14.8e9, Kind.FAMILY, "Qwen", _moe(30.5, 3.3, 0.622, 128, 8, 0, 2048, 768, 36),
        "Qwen3 Technical Report, arXiv 2505.09388",
    ),
    Match(
        "Ling-mini-2.0", "Qwen3-8B base", 8e9, Kind.VENDOR, "Ling", _moe(16, 1.4, 0.611, 256, 8, 1, 2048, 512, 20),
        "model card: equal to a 7-8B dense model, 789M active without tables",
    ),
    Match(
        "Ling-flash-2.0", "Seed-OSS-36B base", 36e9, Kind.VENDOR, "Ling", _moe(103, 6.1, 1.288, 256, 8, 1, 4096, 1024, 20),
        "model card",
        "two tables of 157184 rows",
    ),
    Match(
        "LFM2-8B-A1B", "3-4B class", 3.5e9, Kind.VENDOR, "Liquid AI", _moe(8.3, 1.5, 0.134, 32, 4, 0, 2048, 1792, 12),
        "Liquid AI announcement, 2025-10",
        "middle of the claimed class; one table of 65536 rows; hybrid of convolutions and attention",
    ),
    Match(
        "Switch-C", "T5-XXL", 11.3e9, Kind.CONTROLLED, "Google", _moe(1571, 1.6, 0.067, 2048, 1, 0, 2080, 6144, 0.576),
        "Fedus et al. 2021, arXiv 2101.03961: negative log perplexity at 250k steps equals T5-XXL at 500k",
        "tokens; active count with one table; encoder-decoder; worse than its match on SQuAD",
        lower_bound=True,
    ),
    Match(
        "Mixtral-8x7B", "Llama-2-70B", 69e9, Kind.CROSS, "Mistral", _moe(46.7, 12.9, 0.262, 8, 2, 0, 4096, 14336, 2),
        "Mistral AI, 2023-12: better on most benchmarks",
        "tokens",
    ),
    Match(
        "OLMoE-1B-7B", "Llama2-13B-Chat", 13e9, Kind.CROSS, "AI2", _moe(6.9, 1.3, 0.206, 64, 8, 0, 2048, 1024, 5),
        "Muennighoff et al. 2024, arXiv 2409.02060: better, with 5T against 2T tokens",
    ),
    Match(
        "DeepSeek-V3", "Llama-3.1-405B base", 405e9, Kind.CROSS, "DeepSeek", _moe(671, 37, 1.853, 256, 8, 1, 7168, 2048, 14.8),
        "DeepSeek-V3 Technical Report, arXiv 2412.19437",
        lower_bound=True,
    ),
    Match(
        "DeepSeek-V2", "DeepSeek-67B", 67.4e9, Kind.CROSS, "DeepSeek", _moe(236, 21, 1.049, 160, 6, 2, 5120, 1536, 8.1),
        "DeepSeek-V2, arXiv 2405.04434: better, with more and newer data",
        "claim and tokens recalled",
        lower_bound=True,
    ),
    Match(
        "DBRX", "Llama-2-70B", 69e9, Kind.CROSS, "Databricks", _moe(132, 36, 1.233, 16, 4, 0, 6144, 10752, 12),
        "Databricks, 2024-03",
        "claim recalled",
        lower_bound=True,
    ),
    Match(
        "Grok-1", "Llama-2-70B", 69e9, Kind.CROSS, "xAI", _moe(314, 84, 0.805, 8, 2, 0, 6144, 32768, 6),
        "xAI, 2024-03: MMLU 73.0 against 68.9",
        "claim recalled; tokens",
        lower_bound=True,
    ),
)  # fmt: skip
"""Every match of which the architecture is known."""

FITTED = tuple(m for m in MATCHES if m.kind is not Kind.CROSS and not m.lower_bound)
"""The rows that corrections and spreads are fitted on: controlled, same family, vendor.

Vendor claims stay in although they may be optimistic: without them four rows remain, of three laboratories, and the
corrections move by less than the spread (the table of held-out errors shows both). Switch-C is out: its q is a lower
bound, and read as an equality it would alone decide the spread of every law. Cross-vendor rows compare data, not
architectures."""

CONTROLLED = tuple(m for m in FITTED if m.kind in (Kind.CONTROLLED, Kind.FAMILY))
"""The stricter choice of rows, for comparison."""
