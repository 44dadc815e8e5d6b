"""Tables of computing operators as points: what a row costs is counted by the package's own
oracles.

Shapes in the tables are those of one rank where they say so (attention), and whole ones with the
shards beside them for MoE layers. MoE rows take the experts hit and the token rows of the measured
rank from the table, not from a formula.
"""

from dataclasses import replace

import jax
import numpy as np

from qsopt.arrays import scalar
from qsopt.calibration.points import Labels, OperatorPoints
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, known, per_name, timed
from qsopt.fitted.errors import Column
from qsopt.physics import operators
from qsopt.physics.layer_weights import Gemm
from qsopt.physics.load import Load
from qsopt.physics.roofline import Cost
from qsopt.spec.deployment import Deployment
from qsopt.spec.formats import number_format
from qsopt.spec.hardware import Accelerator
from qsopt.spec.layers import Attention, DenseFfn, Gqa, Layers, Mla, Stack
from qsopt.spec.model import Model, Precision
from qsopt.units import MILLISECOND

ACTIVATION_BYTES = 2.0
"""Activations between operators are bf16 [byte]."""

_UNGATED = (
    "Nemotron-3-Nano-30B",
    "Nemotron-3-Super-120B",
    "Nemotron-3-Ultra-550B",
    "Nemotron-3-Ultra-550B, full width",
)
"""Models of the tables whose experts have two matrices, not three."""


def moe(table: Table, skipped: Skipped, gathered: bool = True) -> OperatorPoints:
    """One MoE layer on one rank: `uniq_local` experts are read and `rows_local` token rows
    computed; where tokens are gathered the kernel sees the rows of the other ranks too.
    """
    table = timed(known(table, skipped), "latency_ms", skipped)
    hidden, width = table.number("hidden"), table.number("inter") / table.number("moe_tp")
    matrices = np.where(np.isin(table.text("model"), _UNGATED), 2.0, 3.0)
    hit, rows = table.number("uniq_local"), table.number("rows_local")
    tokens = table.number("num_tokens")
    elsewhere = gathered * np.maximum(tokens * table.number("topk") - rows, 0.0)
    weight_bytes = format_bytes(table, "dtype")
    cost = jax.vmap(operators.grouped_experts, in_axes=(0, 0, 0, 0, 0, 0, None, 0))(
        hidden, width, matrices, hit, rows, weight_bytes, ACTIVATION_BYTES, elsewhere
    )
    form = table.text("dtype")
    return operator_points(
        table,
        "experts",
        form,
        form,
        table.text("model"),
        cost,
        rows / hit,
        tokens,
    )


def gemm(table: Table, skipped: Skipped) -> OperatorPoints:
    """Dense products of m tokens with a k x n weight."""
    table = timed(known(table, skipped), "latency_ms", skipped)
    m, n, k = (table.number(name) for name in "mnk")
    cost = jax.vmap(_gemm_cost)(m, n, k, format_bytes(table, "dtype"))
    shape = np.char.add(np.char.add(table.text("n"), "x"), table.text("k"))
    form = table.text("dtype")
    return operator_points(table, "gemm", form, form, shape, cost, m, m)


def _gemm_cost(m, n, k, weight_bytes) -> Cost:
    return operators.products((Gemm(n * k, k, n),), m, weight_bytes, ACTIVATION_BYTES)


MOST_SHARED, UNSHARED = 32.0, "unshared"
"""Query heads of a KV head up to which TensorRT-LLM's decode kernels read an entry once for all:
rows of 2 to 32 of them are on one line, rows of 64 to 128 take 6 to 8 times as long. Those are
another kernel, which no set has; with other software both are on one line.
"""


def attention(table: Table, skipped: Skipped) -> OperatorPoints:
    """One layer of decode attention over grouped KV heads; heads are those of the rank."""
    table = timed(known(table, skipped, form="kv_dtype"), "latency_ms", skipped)
    heads, kv_heads, size = (table.number(name) for name in ("heads", "kv_heads", "head_dim"))
    backend = table.text("backend")
    unshared = (backend == "trtllm") & (heads / kv_heads > MOST_SHARED)
    named = np.where(unshared, f"trtllm-{UNSHARED}", backend)
    table = replace(table, columns={**table.columns, "backend": named})

    costs = jax.vmap(gqa_cost)(heads, kv_heads, size, *_load(table))
    shape = np.char.add(
        np.char.add(table.text("heads"), "/"), np.char.add(table.text("kv_heads"), "x")
    )
    return _attention_points(
        table, "attention", np.char.add(shape, table.text("head_dim")), costs, heads / kv_heads
    )


def gqa_cost(heads, kv_heads, head_dim, batch, context, kv_bytes) -> Cost:
    """One step of decode attention of `batch` sequences over `context` cached tokens each."""
    return _core_cost(Gqa(heads, kv_heads, head_dim), batch, context, kv_bytes)


def mla(table: Table, skipped: Skipped) -> OperatorPoints:
    """One layer of absorbed latent attention: 512 latent and 64 rotary values a token."""
    table = timed(known(table, skipped, form="kv_dtype"), "latency_ms", skipped)

    def cost(heads, *load):
        return _core_cost(Mla(heads, 1536.0, 512.0, 128.0, 64.0, 128.0), *load)

    heads = table.number("heads")
    return _attention_points(
        table, "mla", table.text("heads"), jax.vmap(cost)(heads, *_load(table)), heads
    )


def _load(table: Table) -> tuple[Column, Column, Column]:
    return table.number("batch"), table.number("seq"), format_bytes(table, "kv_dtype")


def _core_cost(kind: Attention, batch, context, kv_bytes) -> Cost:
    """The package's oracle wants a model: only its cache format counts here."""
    bf16 = number_format("bf16")
    cache = type(bf16)(kv_bytes, bf16.arithmetic, bf16.index)
    stack = Stack((Layers(1.0, kind),), (Layers(1.0, DenseFfn(1.0)),))
    model = Model(
        stack, Precision(bf16, bf16, bf16, bf16, cache), hidden=1.0, vocabulary=1.0, layers=1.0
    )
    one = scalar(1.0)
    return operators.attention_core(
        kind, model, Load(batch, one, context, context, one), Deployment(batch=batch), 0.0
    )


def _attention_points(
    table: Table, kind: str, shape: np.ndarray, cost: Cost, sharing: Column
) -> OperatorPoints:
    """Scores and sums run in bf16 whatever the cache is stored in; `sharing` query heads read the
    same cache.
    """
    bf16 = np.full(len(table), "bf16")
    return operator_points(
        table, kind, table.text("kv_dtype"), bf16, shape, cost, sharing, table.number("batch")
    )


def format_bytes(table: Table, column: str) -> Column:
    """Bytes of an element in the format that a column names [byte]."""
    return per_name(table.text(column), lambda name: known_format(name).weight_bytes)


def known_format(name: str) -> names.Dtype:
    """The number format that a table calls `name`, where unknown ones have been left out."""
    form = names.dtype(name)
    assert form is not None, name
    return form


def _accelerator(name: str) -> Accelerator:
    return names.accelerator(names.accelerator_name(name) or name)


def operator_points(
    table: Table,
    kind: str,
    stored: np.ndarray,
    computed: np.ndarray,
    shape: np.ndarray,
    cost: Cost,
    rows: Column,
    tokens: Column,
) -> OperatorPoints:
    """Points of a table whose accelerators, formats and times are known.

    Args:
        table: its rows.
        kind: of the operator.
        stored: format of what each row reads most of, by its name in the table.
        computed: format that its arithmetic runs in.
        shape: model or shape.
        cost: by the package's oracle.
        rows: see `OperatorPoints`.
        tokens: likewise.
    """
    gpus = table.text("gpu")
    pairs = np.char.add(np.char.add(gpus, " "), computed)
    labels = Labels(
        file=np.full(len(table), table.file),
        kind=np.full(len(table), kind),
        gpu=per_name(gpus, lambda name: names.accelerator_name(name) or ""),
        backend=table.text("backend"),
        dtype=per_name(stored, lambda name: known_format(name).name),
        shape=shape,
    )
    return OperatorPoints(
        labels=labels,
        cost=jax.tree.map(lambda leaf: np.broadcast_to(leaf, len(table)), cost),
        peak=per_name(pairs, _peak),
        bandwidth=per_name(gpus, lambda name: float(_accelerator(name).bandwidth)),
        rows=rows,
        tokens=tokens,
        seconds=table.number("latency_ms") * MILLISECOND,
    )


def _peak(pair: str) -> float:
    """Of an accelerator and a format, separated by a space [FLOP/s]."""
    gpu, form = pair.rsplit(maxsplit=1)
    return float(names.peak(_accelerator(gpu), known_format(form)))
