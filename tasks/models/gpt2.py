"""GPT-2 as transformers has it: its modules and initialisation, tied embeddings, logits out."""

from torch import Tensor, nn


class GPT2(nn.Module):
    """Logits of the next token: (batch, time) of token ids to (batch, time, vocab_size). No dropout."""

    def __init__(self, *, vocab_size: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        from tasks.models import torchvision_shim  # noqa: F401 (before transformers' models, which import torchvision)

        from transformers import (  # isort: skip (seconds: only where a model is made)
            AttentionInterface,
            AttentionMaskInterface,
            AutoModelForCausalLM,
            GPT2Config,
        )
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        # Compiled, transformers gives "sdpa" a mask, which flash attention does not take; without one it is causal.
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
            bos_token_id=0,  # unused; its own lies outside a smaller vocabulary
            eos_token_id=0,
            use_cache=False,
        )
        self.language_model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="causal")  # type: ignore[no-untyped-call]

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.language_model(ids).logits
        return logits
