"""The same questions to qsopt and to its peers, on one machine in one run."""
