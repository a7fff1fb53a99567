"""Wraps the GPT-2 of transformers: its modules and initialisation, with tied embeddings."""

from torch import Tensor, nn


class GPT2(nn.Module):
    """Maps token ids, shape (batch, time), to the logits of the next token, shape (batch, time, vocab_size).

    There is no dropout.
    """

    def __init__(self, *, vocab_size: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        from tasks.models import torchvision_shim  # noqa: F401 (before transformers' models: they import torchvision)

        from transformers import (  # isort: skip (takes seconds, so only when a model is made)
            AttentionInterface,
            AttentionMaskInterface,
            AutoModelForCausalLM,
            GPT2Config,
        )
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        # When compiled, transformers passes "sdpa" a mask, which flash attention does not accept. Without a mask "sdpa"
        # is causal.
        AttentionInterface.register("causal", ALL_ATTENTION_FUNCTIONS["sdpa"])
        AttentionMaskInterface.register("causal", lambda *_, **__: None)

        config = GPT2Config(
            vocab_size=vocab_size,
            n_positions=context,
            n_embd=width,
            n_layer=depth,
            n_head=heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,  # unused; GPT-2's own id is outside a smaller vocabulary
            eos_token_id=0,
            use_cache=False,
        )
        self.language_model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="causal")  # type: ignore[no-untyped-call]

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.language_model(ids).logits
        return logits
