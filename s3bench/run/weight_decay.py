"""Which parameters have weight decay: one rule for every optimizer, by module type and number of dimensions."""

from typing import Any

from torch import nn

# Their weights can have several dimensions without being matrices that act on activations.
NOT_MATRICES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(model: nn.Module, decay: str) -> list[Any]:
    """What the optimizer gets: the parameters, or two parameter groups of which the second has no weight decay.

    `decay` is "all": every parameter, or "matrices": only the parameters of two or more dimensions that their module
    calls a weight (`weight`, `in_proj_weight`, ...), unless it is an embedding or a norm. Then biases, norms,
    embeddings, learned positions and class tokens are without. An embedding that is also the output layer is an
    embedding.
    """
    if decay == "all":
        return list(model.parameters())
    without = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim < 2 or "weight" not in name or isinstance(module, NOT_MATRICES)
    }
    matrices = [parameter for parameter in model.parameters() if parameter not in without]
    others = [parameter for parameter in model.parameters() if parameter in without]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
