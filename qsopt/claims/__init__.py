"""The claims of the paper that qsopt grew from, each as it is stated, and what comes of it here: as
the paper argues, and as qsopt counts.
"""
