"""The errors of fitted efficiencies against their targets: `python -m
experiments.pages.calibration_table [DATA]`.

Fits everything in the folder (that of QSOPT_MEASURED if left out), writes the shipped TOML files in
configs/efficiency, and docs/calibration.md with its plots. With --device it also runs the kernels
of this machine.
"""

import json
import os
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np

from qsopt.cli import runtime

runtime.configure(quick=False)

from qsopt.calibration.device.measure import run_device  # noqa: E402
from qsopt.calibration.form import FORMS, form  # noqa: E402
from qsopt.calibration.held_out import cross_validation  # noqa: E402
from qsopt.calibration.kinds import DRAWS  # noqa: E402
from qsopt.calibration.points import OperatorPoints, Points  # noqa: E402
from qsopt.calibration.quantities import quantities  # noqa: E402
from qsopt.calibration.report import COLUMNS, plot, text_row  # noqa: E402
from qsopt.calibration.run import Outcome, run, write  # noqa: E402
from qsopt.calibration.tables.folder import Folder, read_folder  # noqa: E402
from qsopt.calibration.validation import end_to_end_rows  # noqa: E402
from qsopt.catalog.folder import configs  # noqa: E402
from qsopt.fitted.errors import Errors, errors  # noqa: E402
from qsopt.fitted.groups import shipped  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = (
    "kernel tables published with the Python package aiconfigurator-core 0.12.0, on A100, H100, "
    "H200, B200, B300 and GB200 "
    "with TensorRT-LLM, vLLM, SGLang and NCCL; end-to-end results of its silicon_sample table"
)

_SERVING_CAVEAT = """\
In the end-to-end rows only the constants of serving are fitted without the model or the accelerator: the operators' values
come from kernel tables in which most of these models and all of these accelerators stand, so its last two columns say less
than those of the rows above."""

_SUM = {"launch": 1e-5, "bandwidth": 0.8, "compute": 0.6}
_LATENT = {**_SUM, "launch": 1.4e-5, "half_batch": 0.3}
_ROUTED = {**_SUM, "launch": 2.8e-5}

TRIED = {
    "MoE layer, all": {
        "sum": form(**_ROUTED),
        "sum, width of a shard": FORMS["experts"],
        "overlap p, width, tokens of an expert": form(
            **_ROUTED, half_width=50.0, half_tokens=2.0, softness=0.9
        ),
    },
    "GEMM with n*k >= 8e6": {
        "sum": form(**{**_SUM, "launch": 4e-6}),
        "overlap p": form(**_SUM | {"launch": 4e-6}, softness=0.5),
        "overlap p, columns of the product": FORMS["gemm"],
    },
    "GQA decode attention, ideal time > 10 us": {
        "sum": FORMS["attention"],
        "overlap p, query heads of a KV head": form(**_SUM, softness=0.5, half_tokens=1.0),
    },
    "MLA decode attention": {
        "sum": form(**{**_SUM, "launch": 1.4e-5}),
        "overlap p": form(**_SUM | {"launch": 1.4e-5}, softness=0.5),
        "sum, sequences that fill the device": form(**_LATENT),
        "sum, sequences, tile of query heads": form(**_LATENT, half_tokens=16.0),
        "overlap p, sequences": FORMS["mla"],
        "overlap p, sequences, tile of query heads": form(
            **_LATENT, half_tokens=16.0, softness=0.5
        ),
    },
    "collectives on one scale-up domain": {
        "fixed time, ring steps, bytes": form(launch=5e-6, step=0.3e-6, bandwidth=0.75),
        "and a ramp from small to large messages": FORMS["collective"],
    },
}
"""Forms compared for each quantity."""


def tried(points: Mapping[str, Points]) -> str:
    lines = [
        "| quantity | form | fitted | other shapes and models | other accelerators | |",
        "|---|---|---|---|---|---|",
    ]
    chosen = {quantity.name: (quantity.kind, rows) for quantity, rows in quantities(points)}
    for quantity, forms in TRIED.items():
        kind, here = chosen[quantity]
        rows = points[kind]
        for name, one in forms.items():
            found = cross_validation(rows, one)
            cells = [
                cell(errors(getattr(found, column)[here], rows.seconds[here])) for column in COLUMNS
            ]
            used = "used" if FORMS[kind] == one else ""
            lines.append(f"| {quantity} | {name} | {' | '.join(cells)} | {used} |")
    return "\n".join(lines)


def cell(found: Errors) -> str:
    return f"{100 * found.median:.1f} / {100 * found.p90:.1f}"


def table(outcome: Outcome) -> str:
    lines = [
        "| quantity | rows | fitted data | other shapes and models | other accelerators |",
        "|---|---|---|---|---|",
    ]
    for row in outcome.rows():
        cells = text_row(row)
        lines.append("| " + " | ".join(cells[name] for name in ("quantity", "n", *COLUMNS)) + " |")
    return "\n".join(lines)


def impossible(points: Mapping[str, Points]) -> str:
    """Rows of computing operators faster than the datasheet allows."""
    files = [
        one.labels.file[one.seconds < one.ideal]
        for one in points.values()
        if isinstance(one, OperatorPoints)
    ]
    names, counts = np.unique(np.concatenate(files), return_counts=True)
    told = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    return (
        f"{counts.sum():,} rows are faster than the datasheet of their accelerator allows "
        f"({told}) and are counted as they are."
    )


def slow(outcome: Outcome) -> str:
    """How many rows behind the missed percentile are far slower than predicted, and where they
    stand.
    """
    named = {quantity.name: rows for quantity, rows in quantities(outcome.points)}
    rows = named.get("MoE layer, B <= 256, TensorRT-LLM bf16/fp8")
    points = outcome.points.get("experts")
    if rows is None or not isinstance(points, OperatorPoints):
        return ""
    times = outcome.predictions["experts"].fitted
    late = rows & (times < 0.65 * points.seconds)
    models, counts = np.unique(points.labels.shape[late], return_counts=True)
    most = ", ".join(f"{models[place]} {counts[place]}" for place in np.argsort(-counts)[:4])
    share = points.cost.bytes / points.bandwidth / points.seconds
    low, high = (100 * np.quantile(share[late], q) for q in (0.1, 0.9))
    told = f"{late.sum():,} of {rows.sum():,} rows ({100 * late.sum() / rows.sum():.1f} %)"
    return f"""The MoE layers of TensorRT-LLM in bf16 and fp8 miss their 90th percentile where {told}
took more than 1.5 times what is predicted. They reach {low:.0f}-{high:.0f} % of the memory bandwidth (10th to 90th percentile);
most are of {most}. For several of these
shapes the same kernel on another accelerator, or with another split or routing, is on the prediction; no size of the layer was
found that tells them apart, so a kernel chosen badly is likely, and no term of the model stands for that."""


def published(folder: Folder, outcome: Outcome) -> str:
    """Errors on published throughputs, of which nothing was fitted."""
    names = {table.file for table in folder.published}
    rows = [
        row
        for row in end_to_end_rows(folder, outcome.calibration, shipped("serving"))
        if row["file"] in names and "," not in row["group"].removeprefix("tokens/s/device,")
    ]
    lines = [
        "Published throughputs, of which nothing was fitted:",
        "",
        "| quantity | rows | median / P90, bias [%] |",
        "|---|---|---|",
    ]
    for row in rows:
        median, tail, bias = (100 * row[name] for name in ("median", "p90", "bias"))
        lines.append(f"| {row['group']} | {row['n']} | {median:.1f} / {tail:.1f}, {bias:+.1f} |")
    return "\n".join(lines)


def serving_text(folder: Folder, outcome: Outcome) -> str:
    if outcome.serving is None:
        return ""
    runs, host, _ = outcome.serving
    right, pairs = outcome.ranked()
    constants = "; ".join(
        f"{name}: scale {host.scale[place]:.2f}, host {host.host[place] * 1e3:.2f} ms"
        for place, name in enumerate(runs.backends)
    )
    return (
        "TPOT = scale step(B, isl + osl/2) + host + interference B prefill(isl)/osl. Fitted "
        "constants, two for each backend "
        f"and one for all: {constants}; interference {float(host.interference):.2f}.\n\n"
        f"{_SERVING_CAVEAT}\n\n{published(folder, outcome)}\n\n"
        f"**Ordering.** Of {pairs:,} pairs of configurations of one model and accelerator whose "
        f"measured TPOT differs by more "
        f"than 2 %, {100 * right / pairs:.1f} % are ranked right by constants that did not see "
        f"the model.\n"
    )


def device_text() -> str:
    path = DOCS / "calibration-device.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text())
    told = record["errors"]
    return f"""
## Reuse fragmentation, measured

`qsopt calibrate --device` on a {record["platform"]}: {told["n"]} kernels, median error of the fit \
{100 * told["median"]:.0f} %, P90 {100 * told["p90"]:.0f} %.
The cores are shared, and single points move from run to run. On a CPU `jax.lax.ragged_dot` computes every expert on every
row, and is predicted so; the loop over the experts hit is the fair curve there.

![MoE over dense time against batch](images/calibration-device.png)
"""


def page(folder: Folder, outcome: Outcome) -> str:
    skipped = folder.skipped.records()
    left = "\n".join(f"* {row['file']}: {row['rows']:,} rows, {row['reason']}" for row in skipped)
    return f"""# What a prediction is worth: efficiencies fitted to measurements

Made by `python -m experiments.pages.calibration_table`. Cells are median / 90th percentile of the absolute relative error in \
percent, the target in brackets, and the signed median.

{table(outcome)}

*Other shapes and models*: five fits, each without one fifth of the models or shapes. *Other accelerators*: a fit without the
accelerator, which is then predicted from the pool. No row is left out for what it measures; not used were

{left}

{impossible(outcome.points)} Shares are bound by 1 all the same, so that no prediction is faster than its device.

The noise floor of the operator tables is 4-11 % (median) and 32-60 % (P90) between two releases of one backend.

{slow(outcome)}

![Predicted against measured](images/calibration.png)

## Forms

Compared with the same splits and priors, median / P90 in percent:

{tried(outcome.points)}

The forms were chosen by these same columns, after a dozen more had been looked at on the same data, so the errors of the kept
ones are somewhat flattered; tables of models and accelerators that played no part are the real test.

Where times add, the tokens at which an expert's product is half as fast cannot be told from the share of bandwidth (both are
a time for each expert read), so MoE layers go without. Intervals of all parameters, from {DRAWS} bootstrap
draws of whole models or shapes, stand in `configs/efficiency/groups/operators.toml`.

## End to end

{serving_text(folder, outcome)}{device_text()}"""


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    data = Path(arguments[0] if arguments else os.environ.get("QSOPT_MEASURED", ""))
    if "--device" in sys.argv:
        device()
    folder = read_folder(data)
    outcome = run(folder, SOURCE, date.today().isoformat(), DRAWS)
    groups = configs() / "efficiency" / "groups"
    write(outcome, groups)
    (groups / "fitted.toml").replace(groups.parent / "fitted.toml")
    plot(outcome.points, outcome.predictions, DOCS / "images" / "calibration.png")
    (DOCS / "calibration.md").write_text(page(folder, outcome))


def device() -> None:
    out = DOCS / "images"
    run_device(out)
    (out / "device.png").replace(out / "calibration-device.png")
    (out / "device.json").replace(DOCS / "calibration-device.json")


if __name__ == "__main__":
    main()
