"""Which parameters are decayed."""

import pytest
import torch
from torch import nn

from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from s3bench.run.weight_decay import parameter_groups


def names_without_decay(model):
    """Return the names of the parameters without weight decay; check that the groups hold each parameter once."""
    groups = parameter_groups(model, "matrices")
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(model.parameters())
    assert all(group.get("weight_decay", 0) == 0 for group in groups)
    without = {parameter for group in groups if "weight_decay" in group for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if parameter in without}


def test_biases_norms_and_embeddings_of_the_gpt_are_not_decayed():
    model = build_parts(run_config(["task=source_gpt"])).task.model()
    without = names_without_decay(model)
    assert {"tokens.weight", "positions.weight", "norm.weight", "blocks.0.norm_1.weight", "norm.bias"} <= without
    assert {name for name, _ in model.named_parameters()} - without == {
        f"blocks.{block}.{matrix}.weight"
        for block in (0, 1)
        for matrix in ("attention_in", "attention_out", "mlp_in", "mlp_out")
    }


def test_class_tokens_and_learned_positions_of_the_vision_transformer_are_not_decayed():
    model = build_parts(run_config(["task=digits_vit"])).task.model()
    without = names_without_decay(model)
    assert {"class_token", "encoder.pos_embedding", "encoder.ln.weight", "heads.head.bias"} <= without
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert not {f"{attention}.in_proj_weight", f"{attention}.out_proj.weight", "conv_proj.weight"} & without


def test_an_embedding_that_is_also_the_output_layer_counts_as_an_embedding():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False))
    model[2].weight = model[0].weight
    assert names_without_decay(model) == {"0.weight", "1.bias"}


def test_a_norm_over_several_dimensions_is_not_a_matrix():
    model = nn.Sequential(nn.LayerNorm([2, 3]), nn.LSTM(3, 3))
    assert {"0.weight", "0.bias"} <= names_without_decay(model)
    assert not {"1.weight_ih_l0", "1.weight_hh_l0"} & names_without_decay(model)


def test_all_is_one_group_in_the_order_of_the_model():
    model = nn.Linear(2, 2)
    assert all(one is other for one, other in zip(parameter_groups(model, "all"), model.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Rprop])  # Rprop has no weight_decay
def test_only_matrices_shrink(optimizer):
    model = nn.Linear(2, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    arguments = {"weight_decay": 0.5} if optimizer is torch.optim.AdamW else {}
    optimizer(parameter_groups(model, "matrices"), lr=0.1, **arguments).step()
    factor = 0.95 if arguments else 1.0
    assert torch.allclose(model.weight, before[0] * factor)
    assert torch.equal(model.bias, before[1])
