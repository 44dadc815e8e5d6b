"""Kernels that are run and timed on the device of this process."""
