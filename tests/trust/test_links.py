"""A link whose speed nobody states is never used, and never takes the speed of something else."""

import equinox as eqx
import numpy as np
import pytest

import qsopt
from qsopt.api.maps import check_links
from qsopt.errors import InputError
from qsopt.maps.axes import axis
from qsopt.spec.hardware import UNKNOWN_LINK
from qsopt.spec.service import Service

CHIP = "rtx-4090"


def test_no_larger_cluster_is_made_of_an_accelerator_without_links() -> None:
    chip = qsopt.load_accelerator(CHIP)
    assert float(chip.scale_out_bandwidth) == UNKNOWN_LINK
    assert float(qsopt.Cluster(chip, 1).devices) == 1.0
    with pytest.raises(InputError, match="8 devices: no link speed is known"):
        qsopt.Cluster(chip, 8)
    known = eqx.tree_at(lambda c: c.scale_out_bandwidth, chip, np.float64(12.5e9))
    assert float(qsopt.Cluster(known, 8).devices) == 8.0


def test_one_device_answers_without_its_links() -> None:
    layout, workload = qsopt.Deployment(batch=4), qsopt.Workload(2048.0)
    found = qsopt.evaluate("olmoe-1b-7b", f"1x{CHIP}", workload, layout)
    assert 0.0 < float(found.tpot) < 1.0


def test_maps_refuse_points_that_need_them() -> None:
    model = qsopt.load_model("olmoe-1b-7b")
    efficiency = qsopt.load_efficiency("ideal")
    service = Service(qsopt.load_cluster(CHIP), qsopt.Workload(2048.0), efficiency)
    axes = (axis("context", model, service), axis("devices", model, service))
    with pytest.raises(InputError, match="no link speed is known"):
        check_links(service.cluster, axes)
    with pytest.raises(InputError, match="scale_out: this link speed is not known; give both ends"):
        axis("scale_out", model, service)
    stated = axis("scale_out", model, service, 1e9, 1e11)
    check_links(service.cluster, (axes[1], stated))
