"""Tables of communication as points: bytes that a device sends, ring steps, and the time that they
take.

What is sent comes from the package's own collectives, run on a link of 1 byte/s without latency.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import scalar
from qsopt.calibration.points import Labels, MessagePoints
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, known, per_name, timed
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import ACROSS
from qsopt.physics import collectives
from qsopt.physics.collectives import Exchange, Group, Links
from qsopt.spec.efficiency import LinkEfficiency
from qsopt.units import MICROSECOND, MILLISECOND

_PASSES = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "alltoall": 1.0}
"""Passes around the ring that each collective makes."""

_TIERS = ("scale_up_bandwidth", "scale_out_bandwidth")


def collective(table: Table, skipped: Skipped) -> MessagePoints:
    """NCCL and custom collectives inside one scale-up domain; other operations and several nodes
    are counted as skipped.
    """
    table = timed(known(table, skipped), "latency_ms", skipped)
    table = _supported(table, skipped)
    ranks, message = table.number("num_gpus"), table.number("message_bytes")
    passes = per_name(table.text("op"), lambda name: _PASSES[name])
    sent = np.asarray(jax.vmap(_sent)(ranks, message, passes))
    family = per_name(table.text("impl"), implementation).astype(str)
    op = np.where(np.char.startswith(family, "custom"), "custom", table.text("op"))
    steps = np.where(table.text("op") == "alltoall", 1.0, passes * (ranks - 1.0))
    shape = np.char.add(np.char.add(op, "/"), table.text("num_gpus"))
    speed = per_name(table.text("gpu"), partial(_speed, tier="scale_up_bandwidth"))
    return _points(
        table, "collective", family, op, shape, sent, steps, "latency_ms", MILLISECOND, speed
    )


def implementation(name: str) -> str:
    """Software and way of launch of a collective: `nccl`, `oneccl`, or `custom` with the backend
    and eager or graph.
    """
    if name.startswith(("nccl", "oneccl")):
        return name.split("_", maxsplit=1)[0]
    backend, _, rest = name.partition(":")
    return f"custom-{backend.split('_')[0]}{'-eager' if rest.endswith('eager') else ''}"


def _supported(table: Table, skipped: Skipped) -> Table:
    fine = np.isin(table.text("op"), list(_PASSES)) & (table.number("num_nodes") == 1)
    skipped.add(
        table.file, "collective of several nodes or of an unknown operation", int(np.sum(~fine))
    )
    return table.where(fine)


def _sent(ranks, message, passes):
    """Bytes that a device sends, from the package's collectives on a link of 1 byte/s."""
    none = LinkEfficiency()
    wires = Links(none, none, scalar(1.0), scalar(1.0))
    group = Group(ranks, jnp.ones_like(ranks))
    both = collectives.all_reduce(group, message, wires).bytes
    return jnp.where(passes > 1.0, both, collectives.all_gather(group, message, wires).bytes)


def exchange(table: Table, skipped: Skipped) -> MessagePoints:
    """Dispatch and combine of expert parallelism, inside one domain or between several over the
    scale-out links.

    Across domains a row's bytes are those of the scale-out link, with the part inside added at the
    ratio of both links' speeds, since the decode model adds both times; its backend is called
    `<backend>-across`, so that it has parameters of its own.
    """
    table = timed(known(table, skipped, form=None), "latency_us", skipped)
    table = _whole_nodes(table, skipped)
    sized = per_name(table.text("comm_dtype"), lambda name: float(_message_bytes(name)))
    ranks, nodes = table.number("ep_size"), table.number("num_nodes")
    up, out = (per_name(table.text("gpu"), partial(_speed, tier=tier)) for tier in _TIERS)
    speed = np.where(nodes > 1.0, out, up)
    load = (table.number("hidden") * sized, table.number("tokens_per_rank"), table.number("topk"))
    sent = np.asarray(
        jax.vmap(_dispatched)(
            ranks, nodes, *load, up / speed, np.where(nodes > 1.0, out / speed, 1.0)
        )
    )
    family = per_name(
        table.text("impl"), lambda name: "-".join(name.split("_")[:1] + name.split("_")[2:])
    ).astype(str)
    family = np.where(nodes > 1.0, np.char.add(family, ACROSS), family)
    shape = np.char.add(np.char.add(table.text("model"), "/"), table.text("ep_size"))
    steps = np.where(nodes > 1.0, nodes, ranks) - 1.0
    return _points(
        table,
        "exchange",
        family,
        table.text("phase"),
        shape,
        sent,
        steps,
        "latency_us",
        MICROSECOND,
        speed,
    )


def _whole_nodes(table: Table, skipped: Skipped) -> Table:
    nodes, ranks = table.number("num_nodes"), table.number("ep_size")
    whole = (nodes >= 1.0) & (ranks >= nodes) & (ranks % np.maximum(nodes, 1.0) == 0)
    skipped.add(table.file, "ranks that do not fill their nodes", int(np.sum(~whole)))
    return table.where(whole)


def _message_bytes(name: str) -> float:
    """Bytes per element on the wire; a format without a name is bf16."""
    form = names.dtype({"bf16": "bfloat16", "fp4": "nvfp4"}.get(name, name))
    return 2.0 if form is None else form.weight_bytes


def _dispatched(ranks, nodes, token_bytes, tokens, top_k, up, out):
    """Bytes that a device sends in one way of a dispatch, each tier's over its share of the link's
    speed.
    """
    none = LinkEfficiency()
    wires = Links(none, none, up, out)
    exchange = Exchange(tokens, top_k, ranks)
    return collectives.dispatch(Group(ranks / nodes, nodes), token_bytes, exchange, wires).link


def _speed(name: str, tier: str) -> float:
    return float(getattr(names.accelerator(names.accelerator_name(name) or name), tier))


def _points(
    table: Table,
    kind: str,
    backend: np.ndarray,
    op: np.ndarray,
    shape: np.ndarray,
    sent: Column,
    steps: Column,
    time: str,
    unit: float,
    speed: Column,
) -> MessagePoints:
    labels = Labels(
        file=np.full(len(table), table.file),
        kind=np.full(len(table), kind),
        gpu=per_name(table.text("gpu"), lambda name: names.accelerator_name(name) or ""),
        backend=backend,
        dtype=op,
        shape=shape,
    )
    return MessagePoints(
        labels=labels,
        sent=sent,
        bandwidth=speed,
        steps=steps,
        seconds=table.number(time) * unit,
    )
