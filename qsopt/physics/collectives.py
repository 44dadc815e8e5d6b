"""Time of communication over two tiers of links: a scale-up domain, and scale-out between domains.

Ranks are placed tensor first, then data, then pipeline, so a group of `size` ranks lies in M =
ceil(size / domain) domains, s = size / M ranks in each. Collectives are hierarchical: reduce
inside, exchange across, gather inside. Bandwidth terms are those of rings; the fixed time of a
collective, the time of a ring step and the ramp between small and large messages come from the
efficiency set. In a mesh or torus a small group has only the links between its own ranks.
Ignored: contention between groups.
"""

from typing import NamedTuple

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import smooth
from qsopt.physics.roofline import Spent
from qsopt.physics.routing import survival
from qsopt.programs import traced_once
from qsopt.record import Record
from qsopt.spec.efficiency import LinkEfficiency
from qsopt.spec.hardware import Accelerator


class Group(Record):
    """Ranks that communicate: `domains` scale-up domains with `inside` ranks in each."""

    inside: Scalar = number()
    """Ranks in each domain, s."""
    domains: Scalar = number()
    """Scale-up domains, M."""
    links: Scalar = number(1.0)
    """Share of a device's scale-up links that lie between the ranks of a domain."""


class Links(Record):
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


def group(size: Scalar, domain: Scalar, softness: Softness = EXACT) -> Group:
    """`size` ranks spread evenly over as few domains of `domain` devices as hold them."""
    domains = smooth.ceil(smooth.maximum(size / domain, xp.ones_like(size), softness), softness)
    return Group(size / domains, domains)


def on_links(ranks: Group, accelerator: Accelerator, shared: Scalar | float = 1.0) -> Group:
    """The group with the links that its ranks have between them in a mesh or torus.

    Args:
        ranks: the group.
        accelerator: how its scale-up links lie.
        shared: 1 to count only those links, 0 to give every group all of a device's.
    """
    share = accelerator.links_share(ranks.inside)
    return Group(ranks.inside, ranks.domains, 1.0 - shared * (1.0 - share))


@traced_once
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
    return _spent(up, _ring(ranks.domains, across, 2.0, collectives, wires.out), wires, ranks.links)


@traced_once
def all_gather(ranks: Group, message: Scalar, wires: Links) -> Spent:
    """Every rank gets all of a `message` that was spread over the group; a reduce-scatter is the
    reverse and costs the same.
    """
    inside = (ranks.inside - 1.0) / ranks.inside * message
    across = (ranks.domains - 1.0) / ranks.domains * message / ranks.inside
    up = _ring(ranks.inside, inside, 1.0, 1.0, wires.up)
    return _spent(up, _ring(ranks.domains, across, 1.0, 1.0, wires.out), wires, ranks.links)


class Exchange(Record):
    """Tokens on their way between the ranks of a stage and their experts."""

    tokens: Scalar = number()
    """T/n, tokens that one device sends."""
    top_k: Scalar = number()
    """k, experts that a token uses."""
    experts: Scalar = number()
    """e, expert parallel size; n/e devices share an expert."""
    merged: Scalar = number(1.0)
    """1 if copies of a token for experts of one rank travel as one, 0 if each travels."""
    groups: Scalar = number(1.0)
    """Groups of experts for node-limited routing; 1 for none."""
    top_groups: Scalar = number(1.0)
    """Groups that a token's experts may come from."""


@traced_once
def dispatch(ranks: Group, token_bytes: Scalar, exchange: Exchange, wires: Links) -> Spent:
    """Tokens sent to the ranks of their experts, one way (bringing the results back costs the same
    for the same bytes of a token).

    A token has c = e (1 - (1 - 1/e)^k) different ranks to go to where copies are merged, k where
    not. Inside the domain a device sends T/n h a c (u - M/e) bytes: every one of an expert's u
    shards needs the token and one of e u is at home. Each of its peers there takes a step. Across,
    a token goes once to each remote domain that it needs (see `remote_domains`).

    Args:
        ranks: the stage's devices, n = M s of them.
        token_bytes: h a, activation of one token [byte].
        exchange: tokens, experts and how they travel.
        wires: links.
    """
    devices, several = ranks.inside * ranks.domains, ranks.domains
    once = exchange.experts * (1.0 - survival(1.0 / exchange.experts, exchange.top_k))
    copies = exchange.top_k + exchange.merged * (once - exchange.top_k)
    inside = copies * xp.maximum(devices - several, 0.0) / exchange.experts
    sent = exchange.tokens * token_bytes
    up = _ring(ranks.inside, sent * inside, 1.0, 1.0, wires.up)
    across = sent * remote_domains(several, exchange)
    return _spent(up, _ring(several, across, 1.0, 1.0, wires.out), wires, ranks.links)


_ALL_GROUPS = 1.01
"""A limit that leaves out less than a hundredth of the groups is none: the chance is continuous
there, its derivative is not.
"""


def remote_domains(domains: Scalar, exchange: Exchange) -> Scalar:
    """Domains other than its own that a token needs, M - 1 times the chance of one.

    Chance 1 - (1 - 1/min(M, e))^k by k free picks. With node-limited routing to g of G groups no
    more than the chance that one of the domain's G/M groups is picked, 1 - (1 - g/G)^(G/M); where a
    group spans domains, g/G times the chance of k picks among the M g/G domains of those groups.
    """
    free = 1.0 - survival(1.0 / xp.minimum(domains, exchange.experts), exchange.top_k)
    picked = xp.minimum(exchange.top_groups / exchange.groups, 1.0)
    held = exchange.groups / domains
    spread = xp.minimum(held / exchange.top_groups, 1.0)
    of_groups = xp.where(
        held >= 1.0,
        1.0 - survival(picked, xp.maximum(held, 1.0)),
        picked * (1.0 - survival(spread, exchange.top_k)),
    )
    is_limited = exchange.groups > _ALL_GROUPS * exchange.top_groups
    limited = xp.where(is_limited, of_groups, 1.0)
    return (domains - 1.0) * xp.minimum(free, limited)


def send(message: Scalar, crossing: Scalar, wires: Links, links: Scalar | float = 1.0) -> Spent:
    """`message` bytes from one device to the next stage's; `crossing` is 1 if that leaves the
    domain, `links` the share of the scale-up links that lead to it.
    """
    stays = 1.0 - crossing
    return _spent(
        _once(1.0 + stays, message * stays, wires.up),
        _once(1.0 + crossing, message * crossing, wires.out),
        wires,
        links,
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
    fixed = xp.clip(ranks - 1.0, 0.0, 1.0) * link.collective * collectives
    return _Tier(sent, fixed + passes * (ranks - 1.0) * link.step)


def _once(ranks: Scalar | float, sent: Scalar, link: LinkEfficiency) -> _Tier:
    """One message among `ranks` ranks: no latency if there is only one."""
    return _Tier(sent, xp.clip(ranks - 1.0, 0.0, 1.0) * (link.collective + link.step))


def _spent(inside: _Tier, across: _Tier, wires: Links, links: Scalar | float) -> Spent:
    up = on_link(inside.sent / (wires.up_bandwidth * links), inside.latency, wires.up.ramp)
    out = on_link(across.sent / wires.out_bandwidth, across.latency, wires.out.ramp)
    latency, link = inside.latency + across.latency, up + out
    none = 0.0 * link
    return Spent(latency + link, none, none, latency, link, none, inside.sent + across.sent)


def on_link(transfer: Scalar, latency: Scalar, ramp: Scalar | float) -> Scalar:
    """Time on a link beside its latency: the transfer at full speed, and ramp sqrt(latency
    transfer) to get there [s].
    """
    product = latency * transfer
    return transfer + ramp * xp.where(
        product > 0, xp.sqrt(xp.where(product > 0, product, 1.0)), 0.0
    )
