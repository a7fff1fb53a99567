"""Reads, encodes and batches the data of the tasks."""
