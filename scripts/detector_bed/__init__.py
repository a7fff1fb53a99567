"""A labelled test bed for spike detectors: loss curves whose events are known, and how a detector does on them."""
