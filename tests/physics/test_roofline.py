"""The time of one operator by hand, and what narrow shards and small batches lose."""

from dataclasses import fields

import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.physics.layer_weights import Gemm, matrix
from qsopt.physics.operators import products
from qsopt.physics.roofline import Cost, roofline
from qsopt.spec.efficiency import OperatorEfficiency

PEAK, BANDWIDTH = 1e15, 4e12


def efficiency(**changes: float) -> OperatorEfficiency:
    values = {"launch": 5e-6, "bandwidth": 0.8, "compute": 0.5, "softness": 1.0}
    none = {field.name: 0.0 for field in fields(OperatorEfficiency)}
    return OperatorEfficiency(**{**none, **values, **changes})


def test_the_whole_formula_by_hand() -> None:
    """Everything at once, additive: launches, tiles of 16 rows, shards of 1024 columns, two
    sequences, 5000 rows of attention and half as many activations elsewhere as are moved here.
    """
    given = efficiency(
        half_tokens=16.0,
        half_width=512.0,
        half_batch=3.0,
        half_columns=256.0,
        half_rows=1000.0,
        elsewhere=0.1,
    )
    cost = Cost(3e9, 8e6, 2.0, 8e6 / 1024.0, 3e9 / 1024.0, 3e9 / 5000.0, 4e6)
    found = roofline(cost, PEAK, BANDWIDTH, given, tokens=8.0, batch=2.0)
    compute = 3e9 / 0.5e15 * (1 + 16 / 8 + 256 / 1024 + 1000 / 5000) * (1 + 3 / 2)
    memory = 8e6 / 3.2e12 * (1 + 512 / 1024 + 0.1 / 2) * (1 + 3 / 2)
    assert float(found.compute) == pytest.approx(compute)
    assert float(found.memory) == pytest.approx(memory)
    assert float(found.seconds) == pytest.approx(2 * 5e-6 + compute + memory)


def test_half_of_the_bandwidth_at_half_width() -> None:
    at = [
        float(
            roofline(
                Cost(0.0, 1e6, 0.0, 1e6 / width), PEAK, BANDWIDTH, efficiency(half_width=300.0)
            ).seconds
        )
        for width in (300.0, 3e9)
    ]
    assert at[0] == pytest.approx(2.0 * at[1], rel=1e-6)


def test_half_of_the_peak_at_half_columns_and_at_half_rows() -> None:
    def seconds(cost: Cost, **changes: float) -> float:
        return float(roofline(cost, PEAK, BANDWIDTH, efficiency(**changes)).seconds)

    whole = seconds(Cost(1e12))
    columns = seconds(Cost(1e12, narrow_flops=1e12 / 64.0), half_columns=64.0)
    rows = seconds(Cost(1e12, row_flops=1e12 / 2e4), half_rows=2e4)
    assert columns == pytest.approx(2.0 * whole)
    assert rows == pytest.approx(2.0 * whole)


def test_products_know_how_narrow_they_are() -> None:
    """Two products of four tokens in bf16, one of which does not exist: weights and arithmetic over
    the columns that each writes.
    """
    cost = products(
        (matrix(1000.0, 50.0), Gemm(*map(jnp.asarray, (0.0, 1000.0, 0.0)))), 4.0, 2.0, 2.0
    )
    moved = 2 * 50_000 + 4 * 2 * 1050
    np.testing.assert_allclose(
        [cost.flops, cost.bytes, cost.launches, cost.narrow, cost.narrow_flops],
        [8 * 50_000, moved, 1, 2 * 50_000 / 50, 8 * 50_000 / 50],
    )


def test_a_product_that_writes_nothing_is_not_narrow() -> None:
    cost = products((Gemm(*map(jnp.asarray, (1000.0, 0.0, 0.0))),), 4.0, 2.0, 2.0)
    assert (float(cost.narrow), float(cost.narrow_flops)) == (0.0, 0.0)
    assert float(cost.bytes) == 2000.0
