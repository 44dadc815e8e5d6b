"""Observed matches: an MoE and the dense model that was found, or is claimed, to equal it.

Counts are the published, rounded ones; non-embedding counts subtract the tables. What a source did
not state is named in `assumptions`. Three of the exact rows come from the laboratory that fitted
Tian's law, three from DeepSeek (two of them against one dense model) and three from Qwen: they are
fewer independent facts than rows.
"""

from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.match import Bound, Contract, Evidence, Match


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
    """An architecture from sizes in units of 1e9 parameters and 1e12 tokens; `tables` are embedding
    and output.
    """
    counts = (1e9 * total, 1e9 * active, 1e9 * (total - tables), 1e9 * (active - tables))
    return MoeArchitecture(*counts, experts, top_k, shared, hidden, width, 1e12 * tokens)


MATCHES = (
    Match(
        moe="Ling-mini-beta",
        dense="Ling Dense-6.1B",
        dense_parameters=6.11e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.TOKENS,
        laboratory="Ling",
        architecture=_moe(17.5, 0.855, 0, 384, 12, 1, 2048, 384, 1),
        source="Tian et al. 2025, arXiv 2507.17702: the same 1T tokens",
        assumptions="counts taken to exclude tables: 20 layers of these sizes give them without",
    ),
    Match(
        moe="DeepSeekMoE-16B",
        dense="DeepSeek-7B",
        dense_parameters=6.9e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.TOKENS,
        laboratory="DeepSeek",
        architecture=_moe(16.4, 2.8, 0.419, 64, 6, 2, 2048, 1408, 2),
        source="Dai et al. 2024, arXiv 2401.06066, Table 3: comparable at 40.5 % of the compute, "
        "the same 2T tokens (Pile 0.74 against 0.75 bits per byte)",
    ),
    Match(
        moe="DeepSeekMoE-145B",
        dense="DeepSeek-67B",
        dense_parameters=67.4e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.TOKENS,
        laboratory="DeepSeek",
        architecture=_moe(144.6, 22.2, 0.839, 128, 12, 4, 4096, 1408, 0.245),
        source="Dai et al. 2024, arXiv 2401.06066, Section 7 and Table 6: comparable at 28.5 % of "
        "the compute, the same corpus of 245e9 tokens",
        assumptions="experts are 0.125 of a standard FFN, taken as 1408 wide: with 62 layers that "
        "gives both counts; better in loss (Pile 1.876 against 1.905), worse on multiple choice",
    ),
    Match(
        moe="DeepSeekMoE-142B",
        dense="DeepSeek-67B",
        dense_parameters=67.4e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.TOKENS,
        laboratory="DeepSeek",
        architecture=_moe(142.3, 12.2, 0.839, 128, 6, 2, 4096, 1408, 0.245),
        source="Dai et al. 2024, arXiv 2401.06066, Section 7 and Table 6, half activated: matches "
        "at 18.2 % of the compute, the same corpus of 245e9 tokens",
        assumptions="expert width as of DeepSeekMoE-145B; better in loss (Pile 1.888 against "
        "1.905), worse on multiple choice; the abstract says 'maybe'",
    ),
    Match(
        moe="Qwen1.5-MoE-A2.7B",
        dense="Qwen1.5-7B",
        dense_parameters=7.72e9,
        evidence=Evidence.FAMILY,
        contract=Contract.LOSS,
        laboratory="Qwen",
        architecture=_moe(14.3, 2.69, 0.622, 60, 4, 4, 2048, 1408, 2.1),
        source="Qwen team, Qwen1.5-MoE, 2024-03 (blog and model card): comparable at a quarter of "
        "the training cost, MMLU 62.5 against 61.0, GSM8K 61.5 against 62.5",
        assumptions="upcycled from Qwen-1.8B; active count from the config (2.7e9 published); "
        "tokens from the cost and 3T of Qwen1.5 (arXiv 2407.10671); weaker in other languages",
    ),
    Match(
        moe="Qwen3-30B-A3B",
        dense="Qwen3-14B base",
        dense_parameters=14.8e9,
        evidence=Evidence.FAMILY,
        contract=Contract.TOKENS,
        laboratory="Qwen",
        architecture=_moe(30.5, 3.3, 0.622, 128, 8, 0, 2048, 768, 36),
        source="Qwen3 Technical Report, arXiv 2505.09388",
    ),
    Match(
        moe="Qwen3.5-122B-A10B",
        dense="Qwen3.5-27B",
        dense_parameters=27e9,
        evidence=Evidence.FAMILY,
        contract=Contract.TOKENS,
        laboratory="Qwen",
        architecture=_moe(122.1, 9.77, 1.526, 256, 8, 1, 3072, 1024, 36),
        source="Qwen3.5-122B-A10B model card, 2026-02: MMLU-Pro 86.7 against 86.1, GPQA 86.6 "
        "against 85.5, SWE-bench Verified 72.0 against 72.4, IFEval 93.4 against 95.0",
        assumptions="counts from the config; tokens as Qwen3, not published; benchmarks of the "
        "post-trained models, of which the MoE leads by a little",
    ),
    Match(
        moe="Qwen3.5-35B-A3B",
        dense="Qwen3.5-27B",
        dense_parameters=27e9,
        evidence=Evidence.FAMILY,
        contract=Contract.TOKENS,
        laboratory="Qwen",
        architecture=_moe(34.66, 3.455, 1.017, 256, 8, 1, 2048, 512, 36),
        source="Qwen3.5-35B-A3B model card, 2026-02: below the dense model on nearly every row, "
        "MMLU-Pro 85.3 against 86.1, GPQA 84.2 against 85.5, SWE-bench Verified 69.2 against 72.4",
        assumptions="counts from the config, all tables active (3e9 in its name are without the "
        "input table, which would give 9.0); tokens as Qwen3, not published",
        bound=Bound.AT_MOST,
    ),
    Match(
        moe="Ling-mini-2.0",
        dense="Qwen3-8B base",
        dense_parameters=8e9,
        evidence=Evidence.VENDOR,
        contract=Contract.LOSS,
        laboratory="Ling",
        architecture=_moe(16, 1.4, 0.611, 256, 8, 1, 2048, 512, 20),
        source="model card: equal to a 7-8B dense model, 789M active without tables",
    ),
    Match(
        moe="Ling-flash-2.0",
        dense="Seed-OSS-36B base",
        dense_parameters=36e9,
        evidence=Evidence.VENDOR,
        contract=Contract.LOSS,
        laboratory="Ling",
        architecture=_moe(103, 6.1, 1.288, 256, 8, 1, 4096, 1024, 20),
        source="model card: on par with dense models below 40B, Seed-OSS-36B among them",
        assumptions="two tables of 157184 rows",
    ),
    Match(
        moe="LFM2-8B-A1B",
        dense="3-4B class",
        dense_parameters=3.5e9,
        evidence=Evidence.VENDOR,
        contract=Contract.LOSS,
        laboratory="Liquid AI",
        architecture=_moe(8.3, 1.5, 0.134, 32, 4, 0, 2048, 1792, 12),
        source="model card, 2025-10: quality comparable to 3-4B dense models, 12T tokens",
        assumptions="middle of the claimed class; one table of 65536 rows; hybrid of convolutions "
        "and attention",
    ),
    Match(
        moe="Switch-C",
        dense="T5-XXL",
        dense_parameters=11.3e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.LOSS,
        laboratory="Google",
        architecture=_moe(1571, 1.6, 0.067, 2048, 1, 0, 2080, 6144, 0.576),
        source="Fedus et al. 2021, arXiv 2101.03961: negative log perplexity at 250k steps equals "
        "T5-XXL at 500k",
        assumptions="tokens; active count with one table; encoder-decoder; worse than its match on "
        "SQuAD",
        bound=Bound.AT_LEAST,
    ),
    Match(
        moe="StepFun MoE-7B",
        dense="StepFun dense-7B",
        dense_parameters=7e9,
        evidence=Evidence.CONTROLLED,
        contract=Contract.COMPUTE,
        laboratory="StepFun",
        architecture=_moe(7, 1.4, 0, 49, 4, 4, 2048, 853, 0.316),
        source="Li et al. 2025, arXiv 2506.12119, Section 5: with 20 % active it beats the dense "
        "model of its own total size at the same compute, on 4.6 times the tokens",
        assumptions="counts without tables; experts and widths from the paper's ratios (22 hidden "
        "sizes of experts, shared ones as large as the routed ones in use), top-k set to 4",
        bound=Bound.AT_LEAST,
    ),
    Match(
        moe="Mixtral-8x7B",
        dense="Llama-2-70B",
        dense_parameters=69e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="Mistral",
        architecture=_moe(46.7, 12.9, 0.262, 8, 2, 0, 4096, 14336, 2),
        source="Mistral AI, arXiv 2401.04088: better on most benchmarks",
        assumptions="tokens",
    ),
    Match(
        moe="OLMoE-1B-7B",
        dense="Llama2-13B-Chat",
        dense_parameters=13e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="AI2",
        architecture=_moe(6.9, 1.3, 0.206, 64, 8, 0, 2048, 1024, 5),
        source="Muennighoff et al. 2024, arXiv 2409.02060: better, with 5T against 2T tokens",
    ),
    Match(
        moe="DeepSeek-V3",
        dense="Llama-3.1-405B base",
        dense_parameters=405e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="DeepSeek",
        architecture=_moe(671, 37, 1.853, 256, 8, 1, 7168, 2048, 14.8),
        source="DeepSeek-V3 Technical Report, arXiv 2412.19437",
        bound=Bound.AT_LEAST,
    ),
    Match(
        moe="DeepSeek-V2",
        dense="DeepSeek-67B",
        dense_parameters=67.4e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="DeepSeek",
        architecture=_moe(236, 21, 1.049, 160, 6, 2, 5120, 1536, 8.1),
        source="DeepSeek-V2, arXiv 2405.04434, and its README: stronger (MMLU 78.5 against 71.3) "
        "on 8.1T newer tokens, with 42.5 % of the training cost saved",
        bound=Bound.AT_LEAST,
    ),
    Match(
        moe="DBRX",
        dense="Llama-2-70B",
        dense_parameters=69e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="Databricks",
        architecture=_moe(132, 36, 1.233, 16, 4, 0, 6144, 10752, 12),
        source="Databricks, Introducing DBRX, 2024-03: better than Llama-2-70B in language, code "
        "and mathematics, on 12T tokens",
        bound=Bound.AT_LEAST,
    ),
    Match(
        moe="Grok-1",
        dense="Llama-2-70B",
        dense_parameters=69e9,
        evidence=Evidence.CROSS,
        contract=Contract.LOSS,
        laboratory="xAI",
        architecture=_moe(314, 84, 0.805, 8, 2, 0, 6144, 32768, 6),
        source="xAI, Announcing Grok, 2023-11: MMLU 73.0 against 68.9, HumanEval 63.2 against 29.9",
        assumptions="tokens, never published",
        bound=Bound.AT_LEAST,
    ),
)
"""Every match of which the architecture is known."""

FITTED = tuple(
    match
    for match in MATCHES
    if match.evidence is not Evidence.CROSS and match.contract is not Contract.COMPUTE
)
"""The rows that corrections and spreads are fitted on: controlled, same family, vendor; bounds as
bounds.

Vendor claims stay in although they may be optimistic: without them six exact rows remain, of three
laboratories, and the corrections move by less than the spread (the table of held-out errors shows
both). Cross-vendor rows compare data, not architectures; a match at equal compute is one of another
q.
"""

CONTROLLED = tuple(m for m in FITTED if m.evidence in (Evidence.CONTROLLED, Evidence.FAMILY))
"""The stricter choice of rows, for comparison."""
