"""Trains GPT-2 on the source of Python's standard library."""

from tasks.models.gpt2 import GPT2
from tasks.source_gpt import SourceGPT


class SourceGPT2(SourceGPT):
    """Is SourceGPT with transformers' GPT-2 as its model: the same arguments, with larger sizes in its YAML."""

    network = GPT2
