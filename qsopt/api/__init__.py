"""The public functions: names become records, answers come in one precision and know their
question.
"""
