"""Tables whose times follow from known parameters."""

from pathlib import Path

import numpy as np

from qsopt.calibration.form import seconds
from qsopt.calibration.points import OperatorPoints, unlabelled
from qsopt.calibration.tables.columns import Skipped, read_table
from qsopt.calibration.tables.operators import gemm

TRUE = {"launch": 6e-6, "bandwidth": 0.7, "compute": 0.6}


def gemm_points(folder: Path, gpus=("h100_sxm", "b200_sxm"), noise=0.0, own=None) -> OperatorPoints:
    """Products of many sizes; `own` multiplies the launch time of an accelerator."""
    lines = ["gpu,backend,version,dtype,m,n,k,latency_ms"]
    sizes = [
        (m, n, k)
        for m in (1, 4, 16, 64, 256, 1024, 4096)
        for n, k in ((512, 512), (2048, 2048), (4096, 8192), (8192, 1024))
    ]
    lines += [f"{gpu},x,1,bfloat16,{m},{n},{k},1" for gpu in gpus for m, n, k in sizes]
    (folder / "g.csv").write_text("\n".join(lines) + "\n")
    points = gemm(read_table(folder / "g.csv"), Skipped())
    factor = np.array([(own or {}).get(gpu, 1.0) for gpu in points.labels.gpu])
    values = {name: np.full(len(points), value) for name, value in TRUE.items()}
    values["launch"] = values["launch"] * factor
    times = np.asarray(seconds(unlabelled(points), values))
    spread = np.exp(noise * np.random.default_rng(0).normal(size=len(times)))
    return OperatorPoints(
        points.labels,
        points.cost,
        points.peak,
        points.bandwidth,
        points.rows,
        points.tokens,
        times * spread,
    )
