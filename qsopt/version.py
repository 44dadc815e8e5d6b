"""The version, written once: the wheel, the package and the command line read it here."""

__version__ = "0.1.0"
