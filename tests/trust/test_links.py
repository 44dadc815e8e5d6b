"""A link whose speed nobody states is never used, and never takes the speed of something else."""

import re
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest

import qsopt
from qsopt.api.maps import check_links
from qsopt.catalog.folder import configs
from qsopt.errors import InputError
from qsopt.maps.axes import axis
from qsopt.spec.hardware import UNKNOWN_LINK
from qsopt.spec.service import Service


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    """The file of an accelerator of which no link is known."""
    text = (configs() / "hardware" / "rtx-4090.toml").read_text("utf-8")
    text, changed = re.subn(r"(?ms)^GBps = .*?^topology = [^\n]*\n", "", text)
    assert changed == 1
    (tmp_path / "chip.toml").write_text(text, "utf-8")
    return tmp_path / "chip.toml"


def test_no_larger_cluster_is_made_of_an_accelerator_without_links(chip: Path) -> None:
    alone = qsopt.load_accelerator(chip)
    assert float(alone.scale_up_bandwidth) == float(alone.scale_out_bandwidth) == UNKNOWN_LINK
    assert float(qsopt.Cluster(alone, 1).devices) == 1.0
    with pytest.raises(InputError, match="8 devices: no link speed is known"):
        qsopt.Cluster(alone, 8)
    known = eqx.tree_at(lambda c: c.scale_out_bandwidth, alone, np.float64(12.5e9))
    assert float(qsopt.Cluster(known, 8).devices) == 8.0


def test_one_device_answers_without_its_links(chip: Path) -> None:
    layout, workload = qsopt.Deployment(batch=4), qsopt.Workload(2048.0)
    cluster = qsopt.Cluster(qsopt.load_accelerator(chip), 1)
    stated = qsopt.load_cluster("1xrtx-4090")
    one, other = (
        float(qsopt.evaluate("olmoe-1b-7b", each, workload, layout, "kernels").tpot)
        for each in (cluster, stated)
    )
    assert one == other, "links that are not used change nothing"


def test_maps_refuse_points_that_need_them(chip: Path) -> None:
    model = qsopt.load_model("olmoe-1b-7b")
    cluster = qsopt.Cluster(qsopt.load_accelerator(chip), 1)
    service = Service(cluster, qsopt.Workload(2048.0), qsopt.load_efficiency("ideal"))
    axes = (axis("context", model, service), axis("devices", model, service))
    with pytest.raises(InputError, match="no link speed is known"):
        check_links(cluster, axes)
    with pytest.raises(InputError, match="scale_out: this link speed is not known; give both ends"):
        axis("scale_out", model, service)
    check_links(cluster, (axes[1], axis("scale_out", model, service, 1e9, 1e11)))
