"""How does a model of yours do on an accelerator of yours, against one that is known?

`own/config.json` is in the form of Hugging Face; `own/cluster.toml` in that of the catalog.
"""

from pathlib import Path

import qsopt

OWN = Path(__file__).parent / "own"

model = qsopt.load_model(OWN / "config.json")
count = qsopt.parameter_count(model)
print(f"{count.total / 1e9:.2f} B parameters, {count.active / 1e9:.2f} B of them active")
print(f"{qsopt.kv_bytes_per_token(model):,.0f} bytes of KV cache per token")

layout = qsopt.Deployment(data=8, expert=8, batch=512)
workload = qsopt.Workload(context=16384)
for name, cluster in (
    ("my accelerator", qsopt.load_cluster(OWN / "cluster.toml")),
    ("H200", qsopt.load_cluster("8xh200")),
):
    metrics = qsopt.evaluate(model, cluster, workload, layout, "ideal")
    memory = metrics.memory.total / metrics.memory.capacity
    print(
        f"8 x {name}: {metrics.throughput:,.0f} tokens/s, {1e3 * metrics.tpot:.1f} ms per token,"
        f" {memory:.0%} of the usable memory"
    )
