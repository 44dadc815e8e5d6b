"""From the first training token to the last one served: whether to train an MoE, its dense match,
or an MoE that is distilled to the match. Read in this order: training, running, plans, break_even,
draws, lifetime.
"""
