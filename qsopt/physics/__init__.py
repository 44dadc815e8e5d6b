"""What a design costs: parameters and bytes, the roofline, operators, messages, memory, one step,
and the metrics that follow. Read in this order: layer_weights, kv_cache, parameters,
routing, roofline, load, operators, collectives, memory, step, evaluate.
"""
