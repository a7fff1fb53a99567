"""The source of Python's standard library with GPT-2."""

from tasks.models.gpt2 import GPT2
from tasks.source_gpt import SourceGPT


class SourceGPT2(SourceGPT):
    """source_gpt with transformers' GPT-2 as its model; the arguments are the same, their sizes in the YAML larger."""

    network = GPT2
