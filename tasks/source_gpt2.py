"""The source of Python's standard library with GPT-2."""

from functools import partial
from pathlib import Path

from tasks.gpt2 import GPT2
from tasks.source_gpt import encoded_source
from tasks.tokens import TokenTask, check_sizes


class SourceGPT2(TokenTask):
    """Predicts the next token of the text of source_gpt, in an encoding of its own, with transformers' GPT-2.

    Args:
        seed: of the places of the windows.
        data_dir: folder for the encoded text.
        vocab_size: tokens of the encoding; 256 is plain bytes.
        batch: windows a step.
        context: tokens a window.
        width, depth, heads: of the transformer.
        workers: processes that make the batches.
    """

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        vocab_size: int = 8192,
        batch: int = 8,
        context: int = 1024,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        workers: int = 0,
    ) -> None:
        shape = {"vocab_size": vocab_size, "context": context, "width": width, "depth": depth, "heads": heads}
        check_sizes(batch=batch, **shape)
        super().__init__(
            encoded_source(Path(data_dir), vocab_size),
            seed,
            model=partial(GPT2, **shape),
            vocab_size=vocab_size,
            batch=batch,
            context=context,
            workers=workers,
        )
