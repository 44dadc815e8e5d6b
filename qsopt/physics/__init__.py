"""What a design costs: parameters and bytes, the roofline, operators, messages, memory, one step,
and the metrics that follow. Read in this order: accounting, routing, roofline, operators,
collectives, memory, step, evaluate.
"""
