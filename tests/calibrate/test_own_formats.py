"""Weights of a device in start-up logs, with formats read from the checkpoint's own files: nothing
that a log says of formats is used. Checkpoints of others' quantisation are not in the catalog, and
their files are read where they lie (tests/test_huggingface_formats.py).
"""

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.tables.names import model_name
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import load_efficiency
from qsopt.catalog.models import load_model
from qsopt.physics.memory import memory
from qsopt.spec.deployment import Deployment
from qsopt.spec.formats import format_name
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GiB

LOGS = (
    Path(
        os.environ.get(
            "QSOPT_MEASURED_SERVING",
            Path(__file__).parents[2].parent / "shared" / "measured_serving",
        )
    )
    / "memory.csv"
)

PADDED = "MI300X"
"""Whose kernels pad experts: 1.35 times the weights in two of three logs."""


@cache
def weights(name: str, tensor: int, data: int, expert: int) -> float:
    """Weights of a device of a catalog's model in its own formats [byte]."""
    service = Service(load_cluster("16xb300"), Workload(1.0), load_efficiency("ideal"))
    layout = Deployment(tensor=tensor, data=data, expert=expert)
    return float(memory(load_model(name), service, layout).weights)


@pytest.mark.skipif(not LOGS.is_file(), reason="the start-up logs are not here")
def test_weights_of_released_checkpoints() -> None:
    rows = list(csv.DictReader(LOGS.read_text("utf-8").splitlines()))
    assert len(rows) == 62
    errors = {}
    for row in rows:
        name = model_name(row["model"])
        if name is None or not row["weights_gib_per_gpu"] or row["gpu"] == PADDED:
            continue
        if row["weight_dtype"] != format_name(load_model(name).precision.experts):
            continue  # quantised by others, whose config is not in the catalog
        ours = weights(name, int(row["tp"]), int(row["dp"]), int(row["ep"]))
        errors[row["id"]] = ours / (float(row["weights_gib_per_gpu"]) * GiB) - 1
    assert len(errors) == 22
    assert float(np.median(np.abs(list(errors.values())))) < 0.005
    assert errors.pop("s06") == pytest.approx(-0.054, abs=0.002)  # told by what memory was left
    assert max(map(abs, errors.values())) < 0.012, errors
