"""SI units. Everything inside qsopt is in bytes, FLOP, seconds, byte/s and FLOP/s; these constants
are for writing.

A multiply-add counts 2 FLOP. GB is 1e9 bytes and GiB is 2**30 bytes; the two are never mixed.
"""

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KiB, MiB, GiB = 2.0**10, 2.0**20, 2.0**30
TFLOPS = 1e12
MICROSECOND, MILLISECOND = 1e-6, 1e-3
SECONDS_PER_HOUR = 3600.0
