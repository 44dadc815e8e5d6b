"""The results of docs/findings.md: one file, one question, one figure and one table each."""
