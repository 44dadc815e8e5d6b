"""Results as plain records of numbers and texts, ready for JSON: the one place that names the keys
of the output.
"""

from qsopt.report.records.text import SCHEMA_VERSION, answer_json, csv_text, to_json

__all__ = ["SCHEMA_VERSION", "answer_json", "csv_text", "to_json"]
