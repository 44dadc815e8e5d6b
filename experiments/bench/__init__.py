"""How fast qsopt is on this machine: first answers, batches, gradients, limits, maps."""
