"""Tables of attention over whole prompts as points: causal, without a window and without a cached
prefix; heads are those of the rank.

Scores and sums run in bf16, or in fp8 where the table says so: such rows have parameters of their
own, named by `FP8_SCORES` in place of the cache's format.
"""

import equinox as eqx
import jax
import numpy as np

from qsopt.calibration.points import OperatorPoints
from qsopt.calibration.tables.columns import Skipped, Table, known, sized, timed
from qsopt.calibration.tables.operators import ACTIVATION_BYTES, format_bytes, operator_points
from qsopt.fitted.errors import Column
from qsopt.physics.prompt_core import prompt_core
from qsopt.physics.roofline import Cost

FP8_SCORES = "fp8_scores"
"""Stands for the format of rows whose scores and sums run in fp8."""

_LATENT, _NOPE, _ROPE, _VALUE = 512.0, 128.0, 64.0, 128.0
"""Sizes of latent attention in the tables, those of DeepSeek-V3."""


def attention(table: Table, skipped: Skipped) -> OperatorPoints:
    """One layer of softmax attention over grouped KV heads."""
    table = _usable(table, ("heads", "kv_heads", "head_dim"), skipped)
    heads, kv_heads, size = (table.number(name) for name in ("heads", "kv_heads", "head_dim"))
    shape = np.char.add(
        np.char.add(table.text("heads"), "/"), np.char.add(table.text("kv_heads"), "x")
    )
    shape = np.char.add(shape, table.text("head_dim"))
    return _points(
        table, "prefill_attention", shape, (heads, kv_heads, size, size), 2.0 * kv_heads * size
    )


def mla(table: Table, skipped: Skipped) -> OperatorPoints:
    """One layer of latent attention with keys and values expanded; the latents are cached."""
    table = _usable(table, ("heads",), skipped)
    heads = table.number("heads")
    sizes = (heads, heads, np.full(len(table), _NOPE + _ROPE), np.full(len(table), _VALUE))
    entry = np.full(len(table), _LATENT + _ROPE)
    return _points(table, "prefill_mla", table.text("heads"), sizes, entry)


def _usable(table: Table, sizes: tuple[str, ...], skipped: Skipped) -> Table:
    table = known(table, skipped, form="kv_dtype")
    table = timed(known(table, skipped, form="attention_dtype"), "latency_ms", skipped)
    return sized(table, ("isl", "batch", *sizes), skipped)


def _points(
    table: Table,
    kind: str,
    shape: np.ndarray,
    sizes: tuple[Column, Column, Column, Column],
    entry: Column,
) -> OperatorPoints:
    """Points of heads, KV heads, key and value sizes, with `entry` elements cached of a token."""
    prompt, batch = table.number("isl"), table.number("batch")
    tokens, pairs = batch * prompt, batch * prompt**2 / 2.0
    core = jax.vmap(prompt_core, in_axes=(0, 0, 0, 0, 0, 0, None))(
        *sizes, tokens, pairs, ACTIVATION_BYTES
    )
    cost = core + Cost(bytes=tokens * entry * format_bytes(table, "kv_dtype"))
    computed = table.text("attention_dtype")
    points = operator_points(
        table, kind, table.text("kv_dtype"), computed, shape, cost, prompt, tokens
    )
    fp8 = np.char.startswith(computed, "fp8")
    dtype = np.where(fp8, FP8_SCORES, points.labels.dtype)
    return eqx.tree_at(lambda points: points.labels.dtype, points, dtype)
