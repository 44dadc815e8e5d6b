"""A comparison as one page for a browser: what stands on it, as a record, and the file that shows
it.
"""
