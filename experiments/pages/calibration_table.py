"""How far are fitted efficiencies from the measurements, and from their targets?

`python -m experiments.pages.calibration_table [DATA] [--device]` fits everything in the folder
(that of QSOPT_MEASURED if left out), writes the shipped TOML files in configs/efficiency, and
docs/calibration.md with its plots. With --device it also runs the kernels of this machine.
"""

import json
import os
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.cli import runtime
from qsopt.files import write_text

runtime.configure(quick=False)

from experiments.framework.measured import RECORDS  # noqa: E402
from experiments.pages.template import render  # noqa: E402
from qsopt.calibration.device.measure import run_device  # noqa: E402
from qsopt.calibration.form import FORMS, form  # noqa: E402
from qsopt.calibration.held_out import cross_validation  # noqa: E402
from qsopt.calibration.kinds import DRAWS  # noqa: E402
from qsopt.calibration.points import OperatorPoints, Points  # noqa: E402
from qsopt.calibration.quantities import quantities  # noqa: E402
from qsopt.calibration.report import COLUMNS, POOLED, plot, text_row  # noqa: E402
from qsopt.calibration.run import Outcome, run, write  # noqa: E402
from qsopt.calibration.tables.folder import Folder, read_folder  # noqa: E402
from qsopt.calibration.validation import end_to_end_rows  # noqa: E402
from qsopt.catalog.folder import configs  # noqa: E402
from qsopt.fitted.errors import errors  # noqa: E402
from qsopt.fitted.groups import shipped  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
DEVICE = RECORDS / "calibration-device.json"
SOURCE = (
    "kernel tables of decode and of prompts published with the Python package aiconfigurator-core "
    "0.12.0, on A100, H100, H200, B200, B300, GB200 and B60 with TensorRT-LLM, vLLM, SGLang, NCCL "
    "and oneCCL; end-to-end results of its silicon_sample table"
)
LATE = 0.65
"""Share of the measured time below which a prediction counts as far too fast."""

_SUM = {"launch": 1e-5, "bandwidth": 0.8, "compute": 0.6}
_PRODUCT = {**_SUM, "launch": 4e-6}
_LATENT = {**_SUM, "launch": 1.4e-5, "half_batch": 0.3}
_ROUTED = {**_SUM, "launch": 2.8e-5, "half_width": 50.0}
_COLUMNS = {**_ROUTED, "half_columns": 150.0}
_PROMPT = {**_SUM, "bandwidth": 0.5}

TRIED = {
    ("experts", "MoE layer, all", "prefill moe"): {
        "sum, width of a shard": form(**_ROUTED),
        "and columns that lose arithmetic": form(**_COLUMNS),
        "and rows of other ranks": form(**_COLUMNS, elsewhere=0.5),
        "and overlap p": FORMS["experts"],
    },
    ("gemm", "GEMM with n*k >= 8e6", "prefill gemm"): {
        "sum": form(**_PRODUCT),
        "overlap p": form(**_PRODUCT, softness=0.5),
        "overlap p, columns that lose bandwidth": form(**_PRODUCT, softness=0.5, half_width=300.0),
        "overlap p, columns that lose bandwidth and arithmetic": FORMS["gemm"],
    },
    ("attention", "GQA decode attention, ideal time > 10 us"): {
        "sum": FORMS["attention"],
        "overlap p, query heads of a KV head": form(**_SUM, softness=0.5, half_tokens=1.0),
    },
    ("mla", "MLA decode attention"): {
        "sum": form(**{**_SUM, "launch": 1.4e-5}),
        "overlap p": form(**_SUM | {"launch": 1.4e-5}, softness=0.5),
        "sum, sequences that fill the device": form(**_LATENT),
        "overlap p, sequences": FORMS["mla"],
        "overlap p, sequences, tile of query heads": form(
            **_LATENT, half_tokens=16.0, softness=0.5
        ),
    },
    ("prefill_attention", "prefill attention"): {
        "sum": form(**_PROMPT),
        "sum, head size": form(**_PROMPT, half_columns=40.0),
        "sum, head size, rows that fill the device": FORMS["prefill_attention"],
    },
    ("prefill_mla", "prefill mla"): {
        "sum": form(**_PROMPT),
        "sum, rows that fill the device": FORMS["prefill_mla"],
    },
    ("collective", "collectives on one scale-up domain"): {
        "fixed time, ring steps, bytes": form(launch=5e-6, step=0.3e-6, bandwidth=0.75),
        "and a ramp from small to large messages": FORMS["collective"],
    },
}
"""Forms compared for a kind of operator, with the quantities that they are compared on."""


def forms(points: Mapping[str, Points]) -> list[dict[str, Any]]:
    """Errors of every form that was tried, by who saw the rows; none of kinds without rows."""
    tried = []
    chosen = {quantity.name: rows for quantity, rows in quantities(points)}
    for (kind, *names), candidates in TRIED.items():
        for name, candidate in candidates.items() if kind in points else ():
            times = cross_validation(points[kind], candidate)
            used = FORMS[kind] == candidate
            for quantity in (one for one in names if one in chosen):
                here = chosen[quantity]
                measured = points[kind].seconds[here]
                by_column = [
                    errors(getattr(times, column)[here], measured) for column in (*COLUMNS, POOLED)
                ]
                tried.append(
                    {"quantity": quantity, "form": name, "errors": by_column, "used": used}
                )
    order = [one["quantity"] for one in tried]
    return sorted(tried, key=lambda one: order.index(one["quantity"]))


def impossible(points: Mapping[str, Points]) -> dict[str, Any]:
    """Rows of computing operators faster than the datasheet allows, by file."""
    files = [
        rows.labels.file[rows.seconds < rows.ideal]
        for rows in points.values()
        if isinstance(rows, OperatorPoints)
    ]
    names, counts = np.unique(np.concatenate(files), return_counts=True)
    return {"rows": int(counts.sum()), "files": dict(zip(names, counts, strict=True))}


def slow(outcome: Outcome) -> dict[str, Any] | None:
    """How many rows behind the missed percentile are far slower than predicted, and where they
    stand; None without such rows.
    """
    named = {quantity.name: rows for quantity, rows in quantities(outcome.points)}
    rows = named.get("MoE layer, B <= 256, TensorRT-LLM bf16/fp8")
    points = outcome.points.get("experts")
    if rows is None or not isinstance(points, OperatorPoints):
        return None
    late = rows & (outcome.predictions["experts"].fitted < LATE * points.seconds)
    models, counts = np.unique(points.labels.shape[late], return_counts=True)
    share = points.cost.bytes / points.bandwidth / points.seconds
    return {
        "late": int(late.sum()),
        "rows": int(rows.sum()),
        "shares": np.quantile(share[late], (0.1, 0.9)),
        "models": {models[place]: counts[place] for place in np.argsort(-counts)[:4]},
    }


def serving(folder: Folder, outcome: Outcome) -> dict[str, Any] | None:
    """Constants of serving, errors on published throughputs, and how well configurations are
    ranked; None without end-to-end results.
    """
    if outcome.serving is None:
        return None
    runs, host, _, _ = outcome.serving
    right, pairs = outcome.ranked()
    return {
        "backends": [
            {"backend": name, "scale": scale, "by_bits": by_bits, "late_steps": late}
            for name, scale, by_bits, late in zip(
                runs.backends, host.scale, host.by_bits, host.late, strict=True
            )
        ],
        "host_layer_us": float(host.host_layer) * 1e6,
        "first_layer_us": float(host.first_layer) * 1e6,
        "interference": float(host.interference),
        "burst": float(host.burst),
        "published": published(folder, outcome),
        "right": right,
        "pairs": pairs,
    }


def published(folder: Folder, outcome: Outcome) -> list[dict[str, Any]]:
    """Errors on published throughputs, of which nothing was fitted."""
    names = {table.file for table in folder.published}
    return [
        row
        for row in end_to_end_rows(folder, outcome.calibration, shipped("serving"))
        if row["file"] in names and "," not in row["group"].removeprefix("tokens/s/device,")
    ]


def device_record() -> dict[str, Any] | None:
    """What the last run with --device measured."""
    return json.loads(DEVICE.read_text()) if DEVICE.is_file() else None


def page(folder: Folder, outcome: Outcome) -> str:
    """docs/calibration.md."""
    return render(
        "calibration.md",
        quantities=[text_row(row) for row in outcome.rows()],
        skipped=folder.skipped.records(),
        impossible=impossible(outcome.points),
        slow=slow(outcome),
        forms=forms(outcome.points),
        draws=DRAWS,
        serving=serving(folder, outcome),
        device=device_record(),
    )


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    data = Path(arguments[0] if arguments else os.environ.get("QSOPT_MEASURED", ""))
    if "--device" in sys.argv:
        device()
    folder = read_folder(data)
    outcome = run(folder, SOURCE, date.today().isoformat(), DRAWS)
    groups = configs() / "efficiency" / "groups"
    write(outcome, groups)
    (groups / "kernels.toml").replace(groups.parent / "kernels.toml")
    plot(outcome.points, outcome.predictions, DOCS / "images" / "calibration.png")
    write_text(DOCS / "calibration.md", page(folder, outcome))


def device() -> None:
    out = DOCS / "images"
    run_device(out)
    (out / "device.png").replace(out / "calibration-device.png")
    (out / "device.json").replace(DEVICE)


if __name__ == "__main__":
    main()
