"""Parameters of a fitted kind of operator, and what each is where a kind does not use it."""

from dataclasses import fields

from qsopt.spec.efficiency import OperatorEfficiency

DEFAULTS = {
    "launch": 0.0,
    "bandwidth": 1.0,
    "compute": 1.0,
    "softness": 1.0,
    "half_tokens": 0.0,
    "half_width": 0.0,
    "half_batch": 0.0,
    "half_columns": 0.0,
    "half_rows": 0.0,
    "elsewhere": 0.0,
    "step": 0.0,
    "ramp": 0.0,
}
"""Parameters and what they are where a kind does not use them: seconds, shares, 1/p, tokens,
columns, sequences, columns, rows, rows, seconds, 1.
"""


OPERATOR = tuple(each.name for each in fields(OperatorEfficiency))
"""Those of a computing operator, in the order of its record."""
