"""Time of communication over two tiers of links: a scale-up domain, and scale-out between domains.

Ranks are placed tensor first, then data, then pipeline, so a group of `size` ranks lies in M =
ceil(size / domain) domains, s = size / M ranks in each. Collectives are hierarchical: reduce
inside, exchange across, gather inside. Bandwidth terms are those of rings; the fixed time of a
collective, the time of a ring step and the ramp between small and large messages come from the
efficiency set. Ignored: contention between groups, topology inside a domain.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from qsopt.arrays import Scalar, number
from qsopt.physics import smooth
from qsopt.physics.roofline import Spent
from qsopt.spec.efficiency import LinkEfficiency
from qsopt.spec.hardware import Accelerator


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


def links(accelerator: Accelerator, up: LinkEfficiency, out: LinkEfficiency) -> Links:
    """The links of a cluster of `accelerator`, inside a domain and between domains."""
    return Links(
        up,
        out,
        accelerator.scale_up_bandwidth * up.bandwidth,
        accelerator.scale_out_bandwidth * out.bandwidth,
    )


def group(size: Scalar, domain: Scalar, softness: Scalar | float = 0.0) -> Group:
    """`size` ranks spread evenly over as few domains of `domain` devices as hold them."""
    domains = smooth.ceil(smooth.maximum(size / domain, jnp.ones_like(size), softness), softness)
    return Group(size / domains, domains)


def all_reduce(
    ranks: Group, message: Scalar, wires: Links, collectives: Scalar | float = 1.0
) -> Spent:
    """Sum of `message` bytes over the group, known to all afterwards.

    Reduce-scatter followed later by all-gather moves the same bytes in the same number of steps; it
    is this with `collectives` = 2, since both pay the fixed time.

    Args:
        ranks: the group.
        message: size of the summed tensor [byte].
        wires: links.
        collectives: how many fixed times are paid.
    """
    inside = 2.0 * (ranks.inside - 1.0) / ranks.inside * message
    across = 2.0 * (ranks.domains - 1.0) / ranks.domains * message / ranks.inside
    up = _ring(ranks.inside, inside, 2.0, collectives, wires.up)
    return _spent(up, _ring(ranks.domains, across, 2.0, collectives, wires.out), wires)


def all_gather(ranks: Group, message: Scalar, wires: Links) -> Spent:
    """Every rank gets all of a `message` that was spread over the group; a reduce-scatter is the
    reverse and costs the same.
    """
    inside = (ranks.inside - 1.0) / ranks.inside * message
    across = (ranks.domains - 1.0) / ranks.domains * message / ranks.inside
    up = _ring(ranks.inside, inside, 1.0, 1.0, wires.up)
    return _spent(up, _ring(ranks.domains, across, 1.0, 1.0, wires.out), wires)


def dispatch(
    ranks: Group, token_bytes: Scalar, tokens: Scalar, top_k: Scalar, experts: Scalar, wires: Links
) -> Spent:
    """Tokens sent to the ranks of their experts, one way (bringing the results back costs the
    same).

    Inside the domain a device sends T/n k h a (u - M/e) bytes: every one of an expert's u shards
    needs the token and one of e u is at home. Each of its peers there takes a step. Across, a token
    goes once to each remote domain that it needs, (M - 1)(1 - (1 - 1/min(M, e))^k) of them.
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
    visited = jnp.minimum(several, experts)
    one = visited <= 1.0  # every token goes there, and 1 - 1/1 has no logarithm
    missed = jnp.expm1(top_k * jnp.log1p(-1.0 / jnp.where(one, 2.0, visited)))
    remote = (several - 1.0) * jnp.where(one, 1.0, -missed)
    sent = tokens * token_bytes
    up = _ring(ranks.inside, sent * copies, 1.0, 1.0, wires.up)
    return _spent(up, _ring(several, sent * remote, 1.0, 1.0, wires.out), wires)


def send(message: Scalar, crossing: Scalar, wires: Links) -> Spent:
    """`message` bytes from one device to the next stage's; `crossing` is 1 if that leaves the
    domain.
    """
    stays = 1.0 - crossing
    return _spent(
        _once(1.0 + stays, message * stays, wires.up),
        _once(1.0 + crossing, message * crossing, wires.out),
        wires,
    )


class _Tier(NamedTuple):
    """What a collective asks of one tier of links."""

    sent: Scalar
    """Bytes that a device sends [byte]."""
    latency: Scalar
    """Fixed times and steps [s]."""


def _ring(
    ranks: Scalar, sent: Scalar, passes: float, collectives: Scalar | float, link: LinkEfficiency
) -> _Tier:
    """Fixed times and ring steps: `passes` (ranks - 1) steps."""
    fixed = jnp.clip(ranks - 1.0, 0.0, 1.0) * link.collective * collectives
    return _Tier(sent, fixed + passes * (ranks - 1.0) * link.step)


def _once(ranks: Scalar | float, sent: Scalar, link: LinkEfficiency) -> _Tier:
    """One message among `ranks` ranks: no latency if there is only one."""
    return _Tier(sent, jnp.clip(ranks - 1.0, 0.0, 1.0) * (link.collective + link.step))


def _spent(inside: _Tier, across: _Tier, wires: Links) -> Spent:
    up = on_link(inside.sent / wires.up_bandwidth, inside.latency, wires.up.ramp)
    out = on_link(across.sent / wires.out_bandwidth, across.latency, wires.out.ramp)
    latency, link = inside.latency + across.latency, up + out
    none = 0.0 * link
    return Spent(latency + link, none, none, latency, link, none, inside.sent + across.sent)


def on_link(transfer: Scalar, latency: Scalar, ramp: Scalar | float) -> Scalar:
    """Time on a link beside its latency: the transfer at full speed, and ramp sqrt(latency
    transfer) to get there [s].
    """
    product = latency * transfer
    return transfer + ramp * jnp.where(
        product > 0, jnp.sqrt(jnp.where(product > 0, product, 1.0)), 0.0
    )
