"""Speed of servers whose power was measured, as end-to-end results: output tokens per second at the
mean number of sequences that they decoded at once. No time was fitted to them.
"""

import numpy as np

from qsopt.calibration.serving.runs import Runs, runs_of
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.fitted.groups import Calibration

CAP = ", at most "
"""Between the task of a result and the sequences that its server took at once, in its source."""


def read_paced(table: Table, calibration: Calibration, skipped: Skipped) -> Runs:
    """Results of a table of measured power. Prompts have the guessed length, and the median time
    between tokens stands for the time per token.

    Raises:
        InputError: if a column that is needed is missing.
    """
    devices, ranks = table.number("n_gpus"), table.number("attention_dp")
    precision = table.text("precision")
    columns = {
        "isl": table.text("isl_guess"),
        "tp": (devices / ranks).astype(str),
        "concurrency": table.text("batch"),
        "precision": np.where(precision == "mxfp4", "", precision),  # as the checkpoint has it
        "tpot_ms": table.text("itl_median_ms"),
        "out_tok_s_gpu_measured": (table.number("out_tok_s") / devices).astype(str),
        "source": [
            f"{task}{CAP}{cap}"
            for task, cap in zip(table.text("task"), table.text("max_sequences"), strict=True)
        ],
    }
    columns["source"] = np.array(columns["source"], dtype=str)
    return runs_of(Table(table.file, {**table.columns, **columns}), calibration, skipped)
