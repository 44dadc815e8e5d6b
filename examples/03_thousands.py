"""Which of a thousand designs serves DeepSeek-V3 best on 64 H200 within 50 ms per token?

One design is a record of numbers; `vmap` makes of the same function one that takes all legal
layouts at many batches and contexts at once.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import qsopt

model = qsopt.load_model("deepseek-v3")
cluster = qsopt.load_cluster("64xh200")
layouts = qsopt.legal_layouts(model, cluster)  # a batch of records: every field has an axis
steps = jnp.asarray([1.0, 4.0, 16.0, 64.0, 256.0])  # times the smallest batch of a layout


def design(layout, step, context):
    """Throughput of one design, and whether it keeps every limit."""
    deployment = eqx.tree_at(lambda record: record.batch, layout, layout.batch * step)
    workload = qsopt.Workload(context, tpot_limit=0.05)
    metrics = qsopt.evaluate(model, cluster, workload, deployment, "ideal")
    return jnp.where(metrics.feasible, metrics.throughput, 0.0)


over_batches = jax.vmap(design, in_axes=(None, 0, None))
over_layouts = jax.jit(jax.vmap(over_batches, in_axes=(0, None, None)))

for context in (4096.0, 32768.0, 131072.0):
    throughput = over_layouts(layouts, steps, context)
    row, column = jnp.unravel_index(jnp.argmax(throughput), throughput.shape)
    best = jax.tree.map(lambda leaf, row=row: float(leaf[row]), layouts)
    print(
        f"{context:7,.0f} tokens: {throughput.max():9,.0f} tokens/s, best of {throughput.size:,}"
        f" designs: tp {best.tensor:g} dp {best.data:g} pp {best.pipeline:g} ep {best.expert:g}"
        f" batch {best.batch * float(steps[column]):g}"
    )
