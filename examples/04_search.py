"""Which experts would be best on this hardware, at the same quality, and what limits them?

The search varies experts, top-k, expert width, parallel sizes and batch. The certificate says
whether the answer was checked against every legal design; sensitivities say what would help most.
"""

import qsopt

problem = qsopt.design_problem(
    "mixtral-8x7b",
    "8xh100",
    qsopt.Workload(8192, tpot_limit=0.05),
    "ideal",
    vary=("experts", "top_k", "expert_width", "tp", "dp", "ep", "batch"),
)
solution = qsopt.optimize(problem, starts=16)

if not isinstance(solution, qsopt.Solution) or solution.best is None:
    raise SystemExit(f"no design keeps every limit: {solution.conflicts}")
best = solution.best
assert solution.certificate is not None and solution.sensitivity is not None
print(f"{solution.value:,.0f} tokens/s with {best.architecture}")
layout = best.deployment
print(f"tp {layout.tensor:g} dp {layout.data:g} ep {layout.expert:g} batch {layout.batch:g}")
whole = "all legal" if solution.certificate.complete else "the nearest"
print(f"{whole} {solution.certificate.enumerated:,} designs hold none better")

elasticities = solution.sensitivity.fixed.elasticity
print("what would help most, in % of throughput for 1 % of each:")
for name in sorted(elasticities, key=lambda name: -abs(elasticities[name]))[:5]:
    print(f"  {name:24} {elasticities[name]:+.3f}")
for price in solution.shadow_prices:
    print(f"one more unit of {price.constraint}: {price.multiplier:.3g} tokens/s per {price.unit}")
