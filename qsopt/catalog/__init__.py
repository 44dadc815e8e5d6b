"""Names and files become records: models, accelerators and clusters, efficiency sets."""
