"""Derivatives of the throughput of one design by every input; the batch follows its limits."""
