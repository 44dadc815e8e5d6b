"""From a decode step to a served request: ways of serving prompts and answers, queues, speculation,
the exact optimum over all of them, and the front between throughput and speed.
"""
