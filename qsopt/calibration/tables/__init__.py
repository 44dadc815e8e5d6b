"""Measured tables become points: what each row ran, counted by the oracles of `physics`."""
