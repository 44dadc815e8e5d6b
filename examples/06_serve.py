"""What do longer prompts cost OLMoE on one H100, and what is a cached prompt worth?

`serve` finds the best way to serve requests; for that plan, request throughput is a function of
numbers, with derivatives in prompt, answer and cached share.
"""

import jax

import qsopt

workload = qsopt.Workload(prompt=2048, answer=256, cached=0.25, ttft_limit=2.0, tpot_limit=0.03)
answer = qsopt.serve("olmoe-1b-7b", "1xh100", workload, top=1)
best = answer.best
if best is None:
    raise SystemExit("no way of serving keeps the limits")
print(
    f"{best.way}: {float(best.reached.throughput):,.0f} tokens/s, first token after "
    f"{1e3 * float(best.reached.ttft):,.0f} ms, then {1e3 * float(best.reached.tpot):.1f} ms each"
)

plan, way = best.plan, best.way
model, cluster = qsopt.load_model("olmoe-1b-7b"), qsopt.load_cluster("1xh100")


def throughput(asked):
    """Output tokens/s of that plan on other requests."""
    return qsopt.serve(model, cluster, asked, plan=plan, way=way).throughput


slope = jax.grad(throughput)(workload)
print(f"a token more of prompt: {float(slope.prompt):+.2f} tokens/s")
print(f"a token more of answer: {float(slope.answer):+.2f} tokens/s")
print(f"a point more of the prompt cached: {0.01 * float(slope.cached):+,.0f} tokens/s")
