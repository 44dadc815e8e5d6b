"""The time of one operator by hand, and what narrow shards and small batches lose."""

import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.physics.accounting import Gemm, matrix
from qsopt.physics.operators import products
from qsopt.physics.roofline import Cost, roofline
from qsopt.spec.efficiency import OperatorEfficiency

PEAK, BANDWIDTH = 1e15, 4e12


def efficiency(**changes: float) -> OperatorEfficiency:
    values = {
        "launch": 5e-6,
        "bandwidth": 0.8,
        "compute": 0.5,
        "softness": 1.0,
        "half_tokens": 0.0,
        "half_width": 0.0,
    }
    return OperatorEfficiency(**{**values, "half_batch": 0.0, **changes})


def test_the_whole_formula_by_hand() -> None:
    """Everything at once, additive: launches, tiles of 16 rows, shards of 512 columns, two
    sequences.
    """
    given = efficiency(half_tokens=16.0, half_width=512.0, half_batch=3.0)
    found = roofline(
        Cost(3e9, 8e6, 2.0, 8e6 / 1024.0), PEAK, BANDWIDTH, given, tokens=8.0, batch=2.0
    )
    compute = 3e9 / 0.5e15 * (1 + 16 / 8) * (1 + 3 / 2)
    memory = 8e6 / 3.2e12 * (1 + 512 / 1024) * (1 + 3 / 2)
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


def test_products_know_how_narrow_they_are() -> None:
    """Two products of one token in bf16, one of which does not exist: bytes over the columns that
    each writes.
    """
    cost = products(
        (matrix(1000.0, 50.0), Gemm(*map(jnp.asarray, (0.0, 1000.0, 0.0)))), 4.0, 2.0, 2.0
    )
    moved = 2 * 50_000 + 4 * 2 * 1050
    np.testing.assert_allclose(
        [cost.flops, cost.bytes, cost.launches, cost.narrow], [8 * 50_000, moved, 1, moved / 50]
    )
