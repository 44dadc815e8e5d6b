"""Derivatives of the throughput of one design by every input, where the batch follows its limits."""
