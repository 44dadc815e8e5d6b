"""Maps of where an MoE beats or loses to its dense twin: both sides at their exact optimum at every
point of a grid.
"""
