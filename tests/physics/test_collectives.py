"""Communication over two tiers, by hand: domains of 8 at 400 GB/s, 50 GB/s between them, latencies
written out.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from qsopt.catalog.accelerators import load_accelerator
from qsopt.physics import collectives
from qsopt.physics.collectives import Exchange, Group, Links
from qsopt.spec.efficiency import LinkEfficiency

UP, OUT, DOMAIN = 400e9, 50e9, 8.0
WIRES = Links(LinkEfficiency(1.0, 3e-6, 0.5e-6), LinkEfficiency(1.0, 20e-6, 6e-6), UP, OUT)
SILENT = Links(LinkEfficiency(), LinkEfficiency(), UP, OUT)
MB = 1e6


def ranks(size: float) -> Group:
    return collectives.group(jnp.asarray(size), jnp.asarray(DOMAIN))


def seconds(spent) -> float:
    return float(spent.seconds)


@pytest.mark.parametrize(
    ("size", "inside", "domains"),
    [(1, 1, 1), (2, 2, 1), (8, 8, 1), (12, 6, 2), (16, 8, 2), (20, 20 / 3, 3), (72, 8, 9)],
)
def test_groups_fill_as_few_domains_as_hold_them(
    size: float, inside: float, domains: float
) -> None:
    found = ranks(size)
    assert float(found.inside) == pytest.approx(inside, rel=1e-15)
    assert float(found.domains) == domains


def test_all_reduce_by_hand() -> None:
    """Inside 2 (s-1)/s X at 400 GB/s, across 2 (M-1)/M X/s at 50 GB/s, and 2 (n-1) steps on each
    tier.
    """
    four = 2 * 3 / 4 * MB / 400e9 + 3e-6 + 2 * 3 * 0.5e-6
    assert seconds(collectives.all_reduce(ranks(4), MB, WIRES)) == pytest.approx(four, rel=1e-13)
    sixteen = (2 * 7 / 8 * MB / 400e9 + 3e-6 + 2 * 7 * 0.5e-6) + (
        2 * 1 / 2 * MB / 8 / 50e9 + 20e-6 + 2 * 1 * 6e-6
    )
    assert seconds(collectives.all_reduce(ranks(16), MB, WIRES)) == pytest.approx(
        sixteen, rel=1e-13
    )
    apart = (2 * 5 / 6 * MB / 400e9 + 2 * 3e-6 + 2 * 5 * 0.5e-6) + (
        2 * 1 / 2 * MB / 6 / 50e9 + 2 * 20e-6 + 2 * 6e-6
    )
    assert seconds(collectives.all_reduce(ranks(12), MB, WIRES, 2.0)) == pytest.approx(
        apart, rel=1e-13
    )


def test_all_gather_by_hand() -> None:
    four = 3 / 4 * MB / 400e9 + 3e-6 + 3 * 0.5e-6
    assert seconds(collectives.all_gather(ranks(4), MB, WIRES)) == pytest.approx(four, rel=1e-13)
    thirty_two = (7 / 8 * MB / 400e9 + 3e-6 + 7 * 0.5e-6) + (
        3 / 4 * MB / 8 / 50e9 + 20e-6 + 3 * 6e-6
    )
    assert seconds(collectives.all_gather(ranks(32), MB, WIRES)) == pytest.approx(
        thirty_two, rel=1e-13
    )


@pytest.mark.parametrize("size", [2, 8, 16, 24, 64])
def test_a_gather_brings_each_rank_what_it_lacks(size: int) -> None:
    """Both tiers together move (n-1)/n of the message to a device; reduce and gather move twice
    that.
    """
    gathered = collectives.all_gather(ranks(size), MB, SILENT)
    assert float(gathered.bytes) == pytest.approx((size - 1) / size * MB, rel=1e-13)
    assert float(collectives.all_reduce(ranks(size), MB, SILENT).bytes) == pytest.approx(
        2 * (size - 1) / size * MB, rel=1e-13
    )


def exchange(tokens: float, top_k: float, experts: float, **rest: float) -> Exchange:
    return Exchange(*map(jnp.asarray, (tokens, top_k, experts)), **rest)


def test_dispatch_by_hand() -> None:
    """One domain: each of 10 tokens goes to 6 experts of 4 shards, 1 of 2 * 4 devices is at home: 6
    (4 - 1/2) copies where each travels.
    """
    within = collectives.dispatch(ranks(8), 2e3, exchange(10.0, 6.0, 2.0, merged=0.0), WIRES)
    assert seconds(within) == pytest.approx(
        10 * 2e3 * 6 * (4 - 1 / 2) / 400e9 + 3e-6 + 7 * 0.5e-6, rel=1e-13
    )
    # merged: a token misses one of the 2 places of its experts with (1/2)**6
    merged = collectives.dispatch(ranks(8), 2e3, exchange(10.0, 6.0, 2.0), SILENT)
    assert seconds(merged) == pytest.approx(
        10 * 2e3 * 2 * (1 - 0.5**6) * (4 - 1 / 2) / 400e9, rel=1e-13
    )
    # 16 devices, 2 domains, e = 16, u = 1: c (1 - 2/16) copies inside; a token needs the other
    # domain with 1 - (1/2)**6
    two = collectives.dispatch(ranks(16), 2e3, exchange(10.0, 6.0, 16.0), WIRES)
    copies = 16 * (1 - (15 / 16) ** 6)
    link = 10 * 2e3 * (copies * (1 - 2 / 16) / 400e9 + 1 * (1 - 0.5**6) / 50e9)
    assert seconds(two) == pytest.approx(link + 3e-6 + 7 * 0.5e-6 + 20e-6 + 6e-6, rel=1e-13)
    assert float(two.link) == pytest.approx(link, rel=1e-13)
    # 32 devices, 4 domains, e = 2, u = 16: the experts are 2 places, so a token misses one of them
    # with (1/2)**k
    four = collectives.dispatch(ranks(32), 2e3, exchange(10.0, 3.0, 2.0, merged=0.0), SILENT)
    assert seconds(four) == pytest.approx(
        10 * 2e3 * (3 * (16 - 4 / 2) / 400e9 + 3 * (1 - (1 - 1 / 2) ** 3) / 50e9), rel=1e-13
    )


def test_merged_copies_are_no_more_than_picks_and_places() -> None:
    """Eight experts of eight ranks: 5.25 places, 4.6 of them elsewhere, not 7."""
    one = collectives.dispatch(ranks(8), 1.0, exchange(1.0, 8.0, 8.0), SILENT)
    assert float(one.bytes) == pytest.approx(8 * (1 - (7 / 8) ** 8) * 7 / 8, rel=1e-13)
    assert float(one.bytes) == pytest.approx(4.6, abs=0.01)
    for top_k in (1.0, 2.0, 8.0, 64.0):
        for experts in (1.0, 2.0, 8.0):
            merged, each = (
                float(
                    collectives.dispatch(
                        ranks(8), 1.0, exchange(1.0, top_k, experts, merged=kind), SILENT
                    ).bytes
                )
                for kind in (1.0, 0.0)
            )
            assert merged <= min(each, experts * (8 - 1) / experts) * (1 + 1e-12)
            if top_k == 1.0:
                assert merged == pytest.approx(each, rel=1e-12)


def test_node_limited_routing_visits_fewer_domains() -> None:
    """8 domains, 8 groups, 4 of them a token: each remote domain with 1/2; without limit 66 %."""
    eight = jnp.asarray(8.0)
    limited = collectives.remote_domains(
        eight, exchange(1.0, 8.0, 64.0, groups=8.0, top_groups=4.0)
    )
    free = collectives.remote_domains(eight, exchange(1.0, 8.0, 64.0))
    assert float(limited) == pytest.approx(7 * 0.5, rel=1e-12)
    assert float(free) == pytest.approx(7 * (1 - (7 / 8) ** 8), rel=1e-12)
    # 16 domains, two for each group: the picks lie in 8 of them
    wide = collectives.remote_domains(
        jnp.asarray(16.0), exchange(1.0, 8.0, 64.0, groups=8.0, top_groups=4.0)
    )
    assert float(wide) == pytest.approx(15 * 0.5 * (1 - (7 / 8) ** 8), rel=1e-12)


def test_small_groups_in_a_mesh_or_torus_have_few_links() -> None:
    mesh, torus = load_accelerator("mi300x", 8), load_accelerator("tpu-v5p", 64)
    shares = [float(mesh.links_share(jnp.asarray(n))) for n in (1.0, 2.0, 4.0, 8.0)]
    assert shares == pytest.approx([1 / 7, 1 / 7, 3 / 7, 1.0])
    shares = [float(torus.links_share(jnp.asarray(n))) for n in (2.0, 8.0, 64.0, 512.0)]
    assert shares == pytest.approx([1 / 6, 3 / 6, 1.0, 1.0])
    assert float(load_accelerator("h100", 8).links_share(jnp.asarray(2.0))) == 1.0
    pair = collectives.on_links(ranks(2), mesh)
    slow, fast = (collectives.all_reduce(group, MB, SILENT) for group in (pair, ranks(2)))
    assert seconds(slow) == pytest.approx(7 * seconds(fast), rel=1e-12)
    assert float(collectives.on_links(ranks(2), mesh, 0.0).links) == 1.0


def test_send_by_hand() -> None:
    near, far = (
        collectives.send(jnp.asarray(MB), jnp.asarray(crossing), WIRES) for crossing in (0.0, 1.0)
    )
    assert seconds(near) == pytest.approx(MB / 400e9 + 3e-6 + 0.5e-6, rel=1e-13)
    assert seconds(far) == pytest.approx(MB / 50e9 + 20e-6 + 6e-6, rel=1e-13)


def test_a_ramp_between_small_and_large_messages() -> None:
    """By hand: the ramp adds its share of the geometric mean of latency and transfer, on each tier
    apart.
    """
    ramped = Links(eqx.tree_at(lambda link: link.ramp, WIRES.up, 0.5), WIRES.out, UP, OUT)
    sent, latency = 2 * 7 / 8 * MB / 400e9, 3e-6 + 14 * 0.5e-6
    assert seconds(collectives.all_reduce(ranks(8), MB, ramped)) == pytest.approx(
        sent + latency + 0.5 * (sent * latency) ** 0.5, rel=1e-13
    )
    plain, both = (
        float(collectives.all_gather(ranks(16), MB, wires).link) for wires in (WIRES, ramped)
    )
    inside, fixed = 7 / 8 * MB / 400e9, 3e-6 + 7 * 0.5e-6
    assert both - plain == pytest.approx(0.5 * (inside * fixed) ** 0.5, rel=1e-9)
    slope = jax.grad(lambda message: collectives.all_reduce(ranks(8), message, ramped).seconds)
    assert float(slope(0.0)) == pytest.approx(
        2 * 7 / 8 / 400e9
    )  # an empty message has a slope, not a NaN


def test_one_rank_pays_nothing() -> None:
    for spent in (
        collectives.all_reduce(ranks(1), MB, WIRES, 2.0),
        collectives.all_gather(ranks(1), MB, WIRES),
        collectives.dispatch(ranks(1), MB, exchange(10.0, 2.0, 1.0), WIRES),
    ):
        assert seconds(spent) == 0.0
        assert float(spent.bytes) == 0.0


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_group_inside_one_domain_never_touches_the_second_tier(size: int) -> None:
    slow = Links(WIRES.up, LinkEfficiency(1.0, 1.0, 1.0), UP, 1.0)
    for time in (
        lambda wires: collectives.all_reduce(ranks(size), MB, wires),
        lambda wires: collectives.all_gather(ranks(size), MB, wires),
        lambda wires: collectives.dispatch(ranks(size), MB, exchange(3.0, 2.0, float(size)), wires),
    ):
        assert seconds(time(slow)) == pytest.approx(seconds(time(WIRES)), rel=1e-13)


@pytest.mark.parametrize("size", [9, 16, 64])
def test_equal_tiers_without_latency_are_one_flat_ring(size: int) -> None:
    flat = Links(LinkEfficiency(), LinkEfficiency(), UP, UP)
    assert seconds(collectives.all_reduce(ranks(size), MB, flat)) == pytest.approx(
        2 * (size - 1) / size * MB / UP, rel=1e-13
    )


def test_reached_speeds_are_shares_of_the_datasheet() -> None:
    from physics_designs import efficiency, h100

    fitted = efficiency("fitted")
    found = collectives.links(h100(16).accelerator, fitted.scale_up, fitted.scale_out)
    for bandwidth, peak, share in (
        (found.up_bandwidth, 450e9, fitted.scale_up.bandwidth),
        (found.out_bandwidth, 50e9, fitted.scale_out.bandwidth),
    ):
        assert float(bandwidth) == pytest.approx(peak * float(share), rel=1e-14)


def test_relaxed_groups_lie_beside_exact_ones() -> None:
    """A relaxed group's domains are max(n/8, 1) within 2**softness, so its time is continuous in n;
    derivatives are finite.
    """
    for size in (1.0, 3.0, 8.0, 9.5, 16.0, 40.0):
        for softness in (0.02, 0.1):
            found = collectives.group(jnp.asarray(size), jnp.asarray(DOMAIN), jnp.asarray(softness))
            assert (
                max(size / 8, 1) * (1 - 1e-15)
                <= float(found.domains)
                <= 2**softness * max(size / 8, 1) * (1 + 1e-15)
            )
            assert float(found.domains * found.inside) == pytest.approx(size, rel=1e-14)

    def time(size: jax.Array, softness: float) -> jax.Array:
        return collectives.all_reduce(
            collectives.group(size, jnp.asarray(DOMAIN), softness), jnp.asarray(MB), WIRES
        ).seconds

    for size in (1.0, 8.0, 16.0):
        for softness in (0.0, 0.05):
            assert jnp.isfinite(jax.grad(time)(jnp.asarray(size), softness))
