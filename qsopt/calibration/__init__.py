"""Efficiencies fitted to measurements, and the error that they leave."""
