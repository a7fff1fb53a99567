"""Decides which parameters are decayed: one rule for every optimizer, by module type and number of dimensions."""

from typing import Any

from torch import nn

# Their weights may have several dimensions, but are not matrices that multiply activations.
NOT_MATRICES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(model: nn.Module, decay: str) -> list[Any]:
    """Return what the optimizer is built with: the parameters, or two groups of which the second has no weight decay.

    Args:
        model: the model to train.
        decay: "all" decays every parameter. "matrices" decays only parameters with at least two dimensions whose name
            in their module contains "weight" (`weight`, `in_proj_weight`, ...), unless the module is an embedding or a
            norm. All other parameters (biases, norms, embeddings, learned positions, class tokens) are not decayed. An
            embedding that is also the output layer counts as an embedding.
    """
    if decay == "all":
        return list(model.parameters())
    undecayed = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim < 2 or "weight" not in name or isinstance(module, NOT_MATRICES)
    }
    matrices = [parameter for parameter in model.parameters() if parameter not in undecayed]
    others = [parameter for parameter in model.parameters() if parameter in undecayed]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
