"""What would one percent more bandwidth, or one percent more context, do to throughput?

An elasticity is d log throughput / d log input: 0.9 means that 1 % more of the input gives 0.9 %
more tokens/s. All of them come from one reverse pass.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import qsopt

model = qsopt.load_model("deepseek-v3")
cluster = qsopt.load_cluster("16xh200")
layout = qsopt.Deployment(data=16, expert=16, batch=512)


def log_throughput(log_context, log_bandwidth, log_peak):
    """Log of the cluster's tokens/s, with three inputs as logs."""
    accelerator = cluster.accelerator
    changed = eqx.tree_at(
        lambda c: (c.accelerator.bandwidth, c.accelerator.peak_flops),
        cluster,
        (jnp.exp(log_bandwidth), jnp.asarray(accelerator.peak_flops) * jnp.exp(log_peak)),
    )
    workload = qsopt.Workload(jnp.exp(log_context))
    return jnp.log(qsopt.evaluate(model, changed, workload, layout, "ideal").throughput)


slopes = jax.jit(jax.grad(log_throughput, argnums=(0, 1, 2)))
bandwidth = jnp.log(float(cluster.accelerator.bandwidth))

print("context  elasticity to context  to bandwidth  to peak FLOP/s")
for context in (1024.0, 8192.0, 65536.0):
    by_context, by_bandwidth, by_peak = slopes(jnp.log(context), bandwidth, jnp.zeros(()))
    print(f"{context:7,.0f}  {by_context:21.3f}  {by_bandwidth:12.3f}  {by_peak:14.3f}")
