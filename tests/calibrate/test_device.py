import numpy as np

from qsopt.calibration.device import kernels
from qsopt.calibration.device.measure import Sizes, calibrate_device
from qsopt.calibration.device.plot import plot_fragmentation

SMALL = Sizes(
    hidden=32,
    width=16,
    experts=8,
    top_k=2,
    batches=(1, 4),
    contexts=(64,),
    kv_heads=2,
    group=2,
    head_dim=8,
    copy_megabytes=1,
    peak_size=64,
    ragged_up_to=4,
)


def test_both_moe_kernels_compute_the_same():
    import jax.numpy as jnp

    generator = np.random.default_rng(0)
    sizes = np.array([2, 0, 3, 1])
    up, down = (jnp.asarray(generator.normal(size=shape)) for shape in ((4, 8, 12), (4, 6, 8)))
    rows = jnp.asarray(generator.normal(size=(6, 8)))
    ragged = kernels.ragged_moe(rows, jnp.asarray(sizes, jnp.int32), up, down)
    hit = np.flatnonzero(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])[hit]
    padded = jnp.concatenate([rows, jnp.zeros((3, 8))])
    looped = kernels.looped_moe(padded, jnp.asarray(hit), jnp.asarray(starts), up, down, 3)
    np.testing.assert_allclose(looped[:6], ragged, rtol=1e-6, atol=1e-9)


def test_routing_gives_every_token_its_experts():
    rows = kernels.routing(16, 8, 2, 0)
    assert rows.sum() == 32
    assert rows.max() <= 16


def test_small_calibration(tmp_path):
    record = calibrate_device(SMALL)
    assert {row["kernel"] for row in record["fragmentation"]} == {"looped", "ragged_dot"}
    assert all(row["measured"] > 0 and row["predicted"] > 0 for row in record["fragmentation"])
    assert {name.split("/")[0] for name in record["parameters"]} == {"gemm", "experts", "attention"}
    assert all(value > 0 for values in record["parameters"].values() for value in values.values())
    plot_fragmentation(record, tmp_path / "d.png")
    assert (tmp_path / "d.png").stat().st_size > 1000
