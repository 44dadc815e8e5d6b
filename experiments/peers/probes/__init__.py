"""Scripts that run in the environments of peers and answer there; they import nothing of qsopt."""
