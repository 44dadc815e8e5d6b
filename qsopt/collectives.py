"""Time of communication over two tiers of links: a scale-up domain, and scale-out between domains.

Ranks are placed tensor first, then data, then pipeline, so a group of `size` ranks lies in M = ceil(size / domain) domains,
s = size / M ranks in each. Collectives are hierarchical: reduce inside, exchange across, gather inside. Bandwidth terms are
those of rings; the fixed time of a collective and the time of a ring step come from the efficiency set. Ignored: contention
between groups, topology inside a domain.
"""

import equinox as eqx
import jax.numpy as jnp

from qsopt import smooth
from qsopt.arrays import Scalar
from qsopt.costs import Spent
from qsopt.efficiency import Efficiency, LinkEfficiency
from qsopt.hardware import Accelerator
from qsopt.model import number


class Group(eqx.Module):
    """Ranks that communicate: `domains` scale-up domains with `inside` ranks in each."""

    inside: Scalar = number()
    """Ranks in each domain, s."""
    domains: Scalar = number()
    """Scale-up domains, M."""


class Links(eqx.Module):
    """Both tiers as reached: speed of a device in one direction, and latencies."""

    up: LinkEfficiency
    out: LinkEfficiency
    up_bandwidth: Scalar = number()
    """Inside a domain [byte/s]."""
    out_bandwidth: Scalar = number()
    """Between domains [byte/s]."""


def links(accelerator: Accelerator, efficiency: Efficiency) -> Links:
    """The links of a cluster of `accelerator`."""
    up, out = efficiency.scale_up, efficiency.scale_out
    return Links(up, out, accelerator.scale_up_bandwidth * up.bandwidth, accelerator.scale_out_bandwidth * out.bandwidth)


def group(size: Scalar, domain: Scalar, softness: Scalar | float = 0.0) -> Group:
    """`size` ranks spread evenly over as few domains of `domain` devices as hold them."""
    domains = smooth.ceil(smooth.maximum(size / domain, jnp.ones_like(size), softness), softness)
    return Group(size / domains, domains)


def all_reduce(ranks: Group, message: Scalar, wires: Links, collectives: Scalar | float = 1.0) -> Spent:
    """Sum of `message` bytes over the group, known to all afterwards.

    Reduce-scatter followed later by all-gather moves the same bytes in the same number of steps; it is this with
    `collectives` = 2, since both pay the fixed time.

    Args:
        ranks: the group.
        message: size of the summed tensor [byte].
        wires: links.
        collectives: how many fixed times are paid.
    """
    inside = 2.0 * (ranks.inside - 1.0) / ranks.inside * message
    across = 2.0 * (ranks.domains - 1.0) / ranks.domains * message / ranks.inside
    return _on_links(inside, across, _latency(ranks, 2.0, collectives, wires), wires)


def all_gather(ranks: Group, message: Scalar, wires: Links) -> Spent:
    """Every rank gets all of a `message` that was spread over the group; a reduce-scatter is the reverse and costs the same."""
    inside = (ranks.inside - 1.0) / ranks.inside * message
    across = (ranks.domains - 1.0) / ranks.domains * message / ranks.inside
    return _on_links(inside, across, _latency(ranks, 1.0, 1.0, wires), wires)


def dispatch(ranks: Group, token_bytes: Scalar, tokens: Scalar, top_k: Scalar, experts: Scalar, wires: Links) -> Spent:
    """Tokens sent to the ranks of their experts, one way (bringing the results back costs the same).

    Inside the domain a device sends T/n k h a (u - M/e) bytes: every one of an expert's u shards needs the token and one of
    e u is at home. Across, a token goes once to each remote domain that it needs, (M - 1)(1 - (1 - 1/min(M, e))^k) of them.
    Ignored: node-limited routing, which visits fewer domains.

    Args:
        ranks: the stage's devices, n = M s of them.
        token_bytes: h a, activation of one token [byte].
        tokens: T/n, tokens that one device sends.
        top_k: k.
        experts: e, expert parallel size; u = n/e.
        wires: links.
    """
    devices, several = ranks.inside * ranks.domains, ranks.domains
    copies = top_k * jnp.maximum(devices - several, 0.0) / experts
    reached = jnp.minimum(1.0 / jnp.minimum(several, experts), 1.0 - 1e-12)
    remote = (several - 1.0) * -jnp.expm1(top_k * jnp.log1p(-reached))
    latency = _once(devices, wires.up) + _once(several, wires.out)
    return _on_links(tokens * token_bytes * copies, tokens * token_bytes * remote, latency, wires)


def send(message: Scalar, crossing: Scalar, wires: Links) -> Spent:
    """`message` bytes from one device to the next stage's; `crossing` is 1 if that leaves the domain."""
    latency = (1.0 - crossing) * _once(2.0, wires.up) + crossing * _once(2.0, wires.out)
    return _on_links(message * (1.0 - crossing), message * crossing, latency, wires)


def _latency(ranks: Group, passes: float, collectives: Scalar | float, wires: Links) -> Scalar:
    """Fixed times and ring steps: `passes` (ranks - 1) steps on each tier that the group uses."""
    tiers = ((ranks.inside, wires.up), (ranks.domains, wires.out))
    return sum(
        jnp.clip(size - 1.0, 0.0, 1.0) * link.collective * collectives + passes * (size - 1.0) * link.step
        for size, link in tiers
    )  # pyright: ignore[reportReturnType]


def _once(ranks: Scalar | float, link: LinkEfficiency) -> Scalar:
    """Latency of one message among `ranks` ranks: none if there is only one."""
    return jnp.clip(ranks - 1.0, 0.0, 1.0) * (link.collective + link.step)


def _on_links(inside: Scalar, across: Scalar, latency: Scalar, wires: Links) -> Spent:
    link = inside / wires.up_bandwidth + across / wires.out_bandwidth
    none = 0.0 * link
    return Spent(latency + link, none, none, latency, link, none, inside + across)
