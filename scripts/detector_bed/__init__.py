"""A labelled test bed for spike detectors."""
