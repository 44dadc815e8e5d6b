"""The claims of the paper, one experiment each."""
