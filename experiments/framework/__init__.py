"""What all experiments share: settings, resumable studies, plots in one style, the run of all of them."""
