"""The loss-spike benchmark for deep-learning optimizers: a run turns a config into a record, a report reads records."""

__version__ = "0.2.0"
