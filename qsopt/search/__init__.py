"""Search of the design space: sensitivities of a design, crossovers of a comparison, and the best
design.
"""
