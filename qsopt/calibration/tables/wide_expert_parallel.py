"""Tables of MoE layers under wide expert parallelism as points: the compute of one rank, its tokens
already there.

The tables name how tokens are spread and not what the measured rank got, so that is drawn again by
the benchmark's own rule (see `aiconfigurator_routing`). With EPLB, `num_slots` places hold the
experts. The kernels take tokens sorted by their expert and are others than those of an ordinary MoE
layer, so they are called `<backend>-wide` and have parameters of their own.
"""

import numpy as np

from qsopt.calibration.points import OperatorPoints
from qsopt.calibration.tables import operators
from qsopt.calibration.tables.aiconfigurator_rows import routed_rows
from qsopt.calibration.tables.columns import Skipped, Table

WIDE = "-wide"
"""What follows the name of a backend that runs one rank of wide expert parallelism."""


def wide(table: Table, skipped: Skipped) -> OperatorPoints:
    """One MoE layer on the most loaded rank of an expert parallel group, to which its tokens were
    sent.
    """
    if "uniq_local" not in table.columns:
        table = routed_rows(table, skipped)
    backend = np.char.add(table.text("backend"), WIDE)
    return operators.moe(
        Table(table.file, {**table.columns, "backend": backend}), skipped, gathered=False
    )
