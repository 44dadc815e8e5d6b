"""The plot of reuse fragmentation on the device at hand: MoE over dense time against batch,
measured beside predicted.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from qsopt.files import write_figure


def plot_fragmentation(record: dict[str, Any], path: Path) -> None:
    """Draw a record of `device.calibrate_device`."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for kernel, colour in (("looped", "tab:blue"), ("ragged_dot", "tab:orange")):
        rows = [row for row in record["fragmentation"] if row["kernel"] == kernel]
        batches = [row["batch"] for row in rows]
        axes.plot(
            batches,
            [row["measured"] for row in rows],
            "o",
            color=colour,
            label=f"{kernel}, measured",
        )
        axes.plot(
            batches,
            [row["predicted"] for row in rows],
            "-",
            color=colour,
            label=f"{kernel}, predicted",
        )
    sizes = record["sizes"]
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("tokens in the batch")
    axes.set_ylabel("time of the MoE layer over the dense layer")
    layer = (
        f"{sizes['experts']} experts, {sizes['top_k']} a token; dense layer of the same work "
        f"for a token"
    )
    axes.set_title(f"Reuse fragmentation measured on {record['device']}\n{layer}", fontsize=10)
    axes.legend()
    write_figure(figure, path, dpi=120)
    plt.close(figure)
