"""Losses and dense sizes of every law at published or hand-worked points, to six digits."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.quality import (
    BESIROGLU,
    HOFFMANN,
    HOFFMANN_TEX,
    Abnar,
    Chinchilla,
    Clark,
    Krajewski,
    Ludziejewski,
    Status,
    Tian,
    Zhao,
    compute_optimal_q,
    law,
)

SIX_DIGITS = 1e-6


def clark(name: str) -> Clark:
    chosen = law(name)
    assert isinstance(chosen, Clark)
    return chosen


def test_clark_published_and_refit() -> None:
    rows = [
        ("s-base", 5e6, 128, 91.40468286, 2.891532558, 51828431.87, 53114246.68),
        ("s-base", 1.3e9, 64, 53.76866726, 2.049778793, 3905485741, 3835634689),
        ("s-base", 1.3e9, 512, 194.9420158, 1.982336938, 5945694881, 5693166191),
        ("rl-r", 1.3e9, 64, 57.01573538, 2.115123857, 2649416871, 3181574797),
        ("hash", 1.3e9, 64, 58.92223243, 2.074625203, 3153677122, 2732784649),
        ("s-base", 3.7e10, 32, 29.74955965, 1.653559842, 5.802255043e10, 5.589104177e10),
        ("rl-r", 3.7e10, 32, 30.73671241, 1.718133028, 3.595358161e10, 4.30097278e10),
    ]
    for router, size, experts, count, loss, effective, refitted in rows:
        n, e = jnp.float64(size), jnp.float64(experts)
        published, refit = clark(f"clark-{router}"), clark(f"clark-{router}-refit")
        assert float(published.saturated_experts(e)) == pytest.approx(count, rel=SIX_DIGITS)
        assert float(published.loss(n, e)) == pytest.approx(loss, rel=SIX_DIGITS)
        assert float(published.effective_parameters(n, e)) == pytest.approx(
            effective, rel=SIX_DIGITS
        )
        assert float(refit.effective_parameters(n, e)) == pytest.approx(refitted, rel=SIX_DIGITS)


def test_clark_cutoffs_of_rounded_coefficients_miss_the_paper_and_of_the_refit_do_not() -> None:
    rows = [("s-base", 1000e9, 684e9), ("rl-r", 31.6e9, 88.1e9), ("hash", 215e9, 81.4e9)]
    for router, rounded, refitted in rows:
        assert float(clark(f"clark-{router}").cutoff) == pytest.approx(rounded, rel=5e-3)
        assert float(clark(f"clark-{router}-refit").cutoff) == pytest.approx(refitted, rel=5e-3)


@pytest.mark.parametrize(
    ("total", "tokens", "granularity", "loss", "dense"),
    [
        (4.3e10, 2e10, 1, 2.621751087, 1.685848204e10),
        (4.3e10, 1e11, 8, 2.335097714, 2.583521382e10),
        (3.01e11, 1.376e11, 32, 2.059576876, 4.05599565e11),
    ],
)
def test_krajewski(
    total: float, tokens: float, granularity: float, loss: float, dense: float
) -> None:
    point = jnp.float64(total), jnp.float64(tokens), jnp.float64(granularity)
    size, status = Krajewski().dense_size(*point)
    assert float(Krajewski().loss(*point)) == pytest.approx(loss, rel=SIX_DIGITS)
    assert float(size) == pytest.approx(dense, rel=SIX_DIGITS)
    assert int(status) == Status.PHYSICAL


def test_krajewski_dense_loss() -> None:
    assert float(Krajewski().dense_loss(jnp.float64(1e9), jnp.float64(20e9))) == pytest.approx(
        2.98030515, rel=SIX_DIGITS
    )
    assert float(Krajewski().dense_loss(jnp.float64(7e9), jnp.float64(137.6e9))) == pytest.approx(
        2.434721434, rel=SIX_DIGITS
    )


@pytest.mark.parametrize(
    ("total", "tokens", "sparsity", "loss", "dense"),
    [
        (1e9, 2e10, 0.0, 2.565681308, 1e9),
        (1e9, 2e10, 0.9, 2.701872333, 434286951.2),
        (1e10, 1e11, 0.75, 2.114851948, 8403806519),
        (1e10, 1e11, 0.9375, 2.175881753, 4287176859),
        (1.88e10, 1.102e11, 0.98, 2.169335266, 4173243644),
    ],
)
def test_abnar(total: float, tokens: float, sparsity: float, loss: float, dense: float) -> None:
    found = Abnar().loss(jnp.float64(total), jnp.float64(tokens), jnp.float64(sparsity))
    size, _ = Abnar().dense_size(jnp.float64(total), jnp.float64(1 - sparsity))
    assert float(found) == pytest.approx(loss, rel=SIX_DIGITS)
    assert float(size) == pytest.approx(dense, rel=SIX_DIGITS)


@pytest.mark.parametrize(
    ("active", "tokens", "experts", "loss", "dense"),
    [
        (1.1e9, 1.4e10, 1, 2.602579418, 1.1e9),
        (7.09e8, 2.18e10, 2, 2.593828101, 826389832.8),
        (4.26e8, 3.1e10, 4, 2.600313379, 615566535.1),
        (1e9, 1e11, 8, 2.362208108, 1892732879),
        (7e9, 2e12, 8, 2.012062912, 1.292562071e10),
        (3.7e10, 1.48e13, 32, 1.813442794, 9.026841162e10),
    ],
)
def test_ludziejewski(
    active: float, tokens: float, experts: float, loss: float, dense: float
) -> None:
    point = jnp.float64(active), jnp.float64(tokens), jnp.float64(experts)
    assert float(Ludziejewski().loss(*point)) == pytest.approx(loss, rel=SIX_DIGITS)
    assert float(Ludziejewski().dense_size(*point)[0]) == pytest.approx(dense, rel=SIX_DIGITS)


@pytest.mark.parametrize(
    ("experts", "m", "mu", "n", "nu"),
    [
        (1, 30.3640, -0.1817, 53.9838, -0.1965),
        (2, 27.7982, -0.1780, 66.8401, -0.2065),
        (4, 24.8462, -0.1731, 87.7022, -0.2192),
        (8, 21.8330, -0.1676, 119.9126, -0.2338),
        (16, 19.0159, -0.1617, 167.5073, -0.2494),
        (32, 16.5424, -0.1557, 234.6726, -0.2652),
    ],
)
def test_ludziejewski_reduces_to_the_papers_table_4(
    experts: float, m: float, mu: float, n: float, nu: float
) -> None:
    reduced = Ludziejewski().reduced(jnp.float64(experts))
    found = [float(x) for x in (reduced.m, reduced.mu, reduced.n, reduced.nu)]
    assert found == pytest.approx([m, mu, n, nu], rel=4e-3)


@pytest.mark.parametrize(("compute", "experts", "best"), [(1e20, 1, 1.73e9), (1e22, 32, 12.3e9)])
def test_ludziejewski_compute_optimum_of_the_papers_table_1(
    compute: float, experts: float, best: float
) -> None:
    sizes = jnp.geomspace(1e8, 1e11, 20001)
    losses = Ludziejewski().loss(sizes, compute / (6 * sizes), jnp.float64(experts))
    assert float(sizes[jnp.argmin(losses)]) == pytest.approx(best, rel=5e-3)


@pytest.mark.parametrize(
    ("ratio", "granularity", "compute", "leverage"),
    [
        (0.031, 12, 1e22, 7.244897973),
        (0.034, 12, 1e22, 6.961441632),
        (0.031, 2, 1e22, 5.266694275),
        (0.078, 2, 1e20, 2.525219085),
        (1, 2, 1e20, 0.9936771396),
        (13 / 385, 4096 / 384, 5.13e21, 6.535848152),
        (9 / 257, 7, 3.2856e24, 11.85127905),
    ],
)
def test_tian(ratio: float, granularity: float, compute: float, leverage: float) -> None:
    found = Tian().leverage(jnp.float64(ratio), jnp.float64(granularity), jnp.float64(compute))
    assert float(found) == pytest.approx(leverage, rel=SIX_DIGITS)


def test_tian_log_bases_give_the_papers_optimum_and_headline() -> None:
    assert float(Tian().best_granularity) == pytest.approx(11.3, abs=0.05)
    assert float(Tian().leverage(jnp.float64(0.031), jnp.float64(12), jnp.float64(1e22))) > 7
    assert float(compute_optimal_q(jnp.float64(7.245), jnp.float64(1e22))) == pytest.approx(
        5.245, rel=2e-3
    )


@pytest.mark.parametrize(
    ("point", "loss"),
    [
        ((1e9, 5e10, 2e8, 6, 0.25), 2.702689193),
        ((8.6e9, 1e11, 1e9, 8, 0.125), 2.408134667),
        ((671e9, 14.8e12, 37e9, 9, 1 / 9), 1.995830187),
    ],
)
def test_zhao_loss(point: tuple[float, ...], loss: float) -> None:
    assert float(Zhao().loss(*(jnp.float64(x) for x in point))) == pytest.approx(
        loss, rel=SIX_DIGITS
    )


def test_zhao_optima_agree_with_the_published_ones() -> None:
    assert float(Zhao().best_activated) == pytest.approx(6.78, abs=0.005)
    assert float(Zhao().best_shared_ratio) == pytest.approx(0.3148, abs=5e-5)
    fractions = [float(Zhao().best_active_fraction(jnp.float64(total))) for total in (30e9, 671e9)]
    assert fractions == pytest.approx([0.4007, 0.2204], abs=5e-4)


@pytest.mark.parametrize(
    ("fit", "losses", "optimum"),
    [
        (HOFFMANN, (1.936645471, 2.580047872, 2.866222991), 3.22e10),
        (HOFFMANN_TEX, (1.920835204, 2.530543511, 2.804093194), 4.03e10),
        (BESIROGLU, (1.973881863, 2.530050324, 2.805732121), 7.22e10),
    ],
)
def test_chinchilla(fit: Chinchilla, losses: tuple[float, ...], optimum: float) -> None:
    points = ((7e10, 1.4e12), (1e9, 2e10), (4e8, 8e9))
    found = [float(fit.loss(jnp.float64(n), jnp.float64(d))) for n, d in points]
    assert found == pytest.approx(losses, rel=SIX_DIGITS)
    compute = jnp.float64(5.76e23)
    assert float(fit.optimal_parameters(compute)) == pytest.approx(optimum, rel=2e-3)
    sizes = np.geomspace(1e10, 2e11, 20001)
    best = sizes[np.argmin(np.asarray(fit.loss(jnp.asarray(sizes), compute / (6 * sizes))))]
    assert float(fit.optimal_parameters(compute)) == pytest.approx(best, rel=1e-3)
    assert float(fit.optimal_tokens(compute) * fit.optimal_parameters(compute)) == pytest.approx(
        5.76e23 / 6, rel=1e-12
    )
