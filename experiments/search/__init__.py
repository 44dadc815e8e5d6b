"""The search measured against enumeration and other optimisers."""
