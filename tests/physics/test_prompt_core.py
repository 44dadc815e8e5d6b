"""Attention of prompts by hand: pairs, activations, heads and rows."""

import numpy as np
import pytest

from qsopt.physics.prompt_core import prompt_core


def test_whole_prompts_by_brute_force() -> None:
    """Two prompts of 6 tokens, 4 query heads and 2 KV heads of 8: every token with those before it,
    half of itself, as half of the square is charged.
    """
    pairs = 2 * sum(range(6)) + 2 * 6 / 2
    assert pairs == 2 * 6**2 / 2
    cost = prompt_core(4.0, 2.0, 8.0, 8.0, 12.0, pairs, 2.0)
    scores_and_sums = 2 * 8 + 2 * 8
    assert float(cost.flops) == 4 * pairs * scores_and_sums
    queries_and_outputs, keys_and_values = 12 * 4 * 2 * 8, 12 * 2 * 2 * 8
    assert float(cost.bytes) == 2 * (queries_and_outputs + keys_and_values)
    assert float(cost.launches) == 1.0


def test_heads_and_rows() -> None:
    """What is lost goes with the arithmetic over the head size, and with that of one row."""
    cost = prompt_core(4.0, 2.0, 8.0, 8.0, 12.0, 36.0, 2.0)
    np.testing.assert_allclose(cost.narrow_flops * 8.0, cost.flops)
    np.testing.assert_allclose(cost.row_flops * 12.0 * 4.0, cost.flops)


def test_expanded_latents_have_keys_and_values_of_two_sizes() -> None:
    """DeepSeek-V3: keys of 192 and values of 128 elements, 128 heads."""
    cost = prompt_core(128.0, 128.0, 192.0, 128.0, 1000.0, 500_000.0, 2.0)
    assert float(cost.flops) == 2 * 128 * (192 + 128) * 500_000
    assert float(cost.narrow_flops) == pytest.approx(4 * 128 * 500_000)
