"""From a decode step to a served request: ways of serving prompts and answers, queues, speculation,
energy, and the exact optimum over all of them.
"""
