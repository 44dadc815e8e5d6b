"""What to build instead: architectures of a wanted quality, MoE and dense, that serve requests best
on a cluster.
"""
