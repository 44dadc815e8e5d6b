"""What all experiments share: settings, resumable studies, one style of plots, the run of all."""
