"""Implements the update rules: applied tensor by tensor, or compiled for all tensors at once."""
