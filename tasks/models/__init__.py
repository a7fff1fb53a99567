"""Defines the neural networks that the tasks train."""
