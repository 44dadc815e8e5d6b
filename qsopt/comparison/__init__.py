"""An MoE against the dense model of its quality: the twin, both optima, what separates them, and
how sure it is.
"""
