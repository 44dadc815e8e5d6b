"""Does Mixtral or the dense model of its quality decode faster on 8 H100, and why?

Each side stands in its own best deployment. The factors multiply to the ratio; above 1 a cause
favours the dense model.
"""

import qsopt

model = qsopt.load_model("mixtral-8x7b")
cluster = qsopt.load_cluster("8xh100")

print("context  dense/MoE  reuse  residency  communication  other  verdict")
for context in (1024, 8192, 32768):
    result = qsopt.compare(model, cluster, qsopt.Workload(context), "ideal")
    factors = result.penalties
    print(
        f"{context:7,}  {result.ratio:9.2f}  {factors.reuse:5.2f}  {factors.residency:9.2f}"
        f"  {factors.communication:13.2f}  {factors.other:5.2f}  {result.verdict}"
    )

numbers = result.numbers
print(f"s = {numbers.s:.3f}, q = {numbers.q:.2f}, q s = {numbers.qs:.2f}", end="; ")
print(f"at {context:,} tokens q = {result.break_even_q:.2f} would flip the verdict")
