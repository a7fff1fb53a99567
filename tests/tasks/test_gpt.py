"""The GPT models: the small one equals transformers' GPT-2, and both start and attend as GPT-2 does."""

import os
import subprocess
import sys

import pytest
import torch

from tasks.models.gpt import GPT
from tasks.models.gpt2 import GPT2
from tests.conftest import ROOT

SHAPE = {"vocab_size": 60, "context": 24, "width": 32, "depth": 3, "heads": 4}


def copy_weights(ours, theirs):
    """Copy transformers' weights into ours; its linear layers (Conv1D) store them transposed."""
    names = {
        "norm_1": "ln_1",
        "attention_in": "attn.c_attn",
        "attention_out": "attn.c_proj",
        "norm_2": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    }
    source = theirs.language_model.state_dict()
    weights = {"tokens.weight": "wte.weight", "positions.weight": "wpe.weight"}
    weights |= {"norm.weight": "ln_f.weight", "norm.bias": "ln_f.bias"}
    for block in range(len(ours.blocks)):
        for name, other in names.items():
            for part in ("weight", "bias"):
                weights[f"blocks.{block}.{name}.{part}"] = f"h.{block}.{other}.{part}"
    linear = ("attention_in.weight", "attention_out.weight", "mlp_in.weight", "mlp_out.weight")
    values = {name: source[f"transformer.{other}"] for name, other in weights.items()}
    ours.load_state_dict({name: value.T if name.endswith(linear) else value for name, value in values.items()})


def test_the_small_gpt_is_gpt2():
    torch.manual_seed(0)
    ours, theirs = GPT(**SHAPE), GPT2(**SHAPE)
    for parameter in theirs.parameters():  # biases far from 0, norms far from 1
        torch.nn.init.normal_(parameter, std=0.3)
    copy_weights(ours, theirs)
    ids = torch.randint(60, (5, 24))
    assert torch.allclose(ours(ids), theirs(ids), rtol=1e-5, atol=1e-5)
    losses = []
    for model in (ours, theirs):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(
        ours.tokens.weight.grad, theirs.language_model.transformer.wte.weight.grad, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("model_class", [GPT, GPT2])
def test_initialisation_is_that_of_gpt2(model_class):
    torch.manual_seed(0)
    model = model_class(vocab_size=500, context=128, width=64, depth=8, heads=4)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == 64 * (500 + 128) + 8 * (12 * 64**2 + 13 * 64) + 2 * 64  # tied embeddings count once
    for name, parameter in model.named_parameters():
        norm = any(part in name for part in ("norm", "ln_"))
        if name.endswith("bias") or norm:
            assert (parameter == float(norm and name.endswith("weight"))).all(), name
        else:
            added = name.endswith(("attention_out.weight", "mlp_out.weight", "c_proj.weight"))
            assert parameter.std().item() == pytest.approx(0.02 / 4 if added else 0.02, rel=0.05), name


def test_gpt2_says_nothing_and_drops_nothing(capfd):
    torch.manual_seed(0)
    model = GPT2(**SHAPE)
    ids = torch.randint(60, (2, 24))
    assert torch.equal(model(ids), model(ids))
    assert model.language_model.config._attn_implementation == "causal"
    assert capfd.readouterr() == ("", "")


def test_gpt2s_attention_is_causal_without_a_mask_when_compiled_too():
    """Flash attention accepts no mask, but transformers makes one when it is compiled."""
    found = []

    def backend(graph, _):
        found.extend(node for node in graph.graph.nodes if "scaled_dot_product" in str(node.target))
        return graph.forward

    torch.compile(GPT2(**SHAPE), backend=backend)(torch.randint(60, (2, 24)))
    assert [(node.kwargs["attn_mask"], node.kwargs["is_causal"]) for node in found] == [(None, True)] * SHAPE["depth"]


def test_source_gpt_needs_neither_transformers_nor_datasets():
    code = (
        "import sys, torch; from tasks.source_gpt import SourceGPT\n"
        f"task = SourceGPT(0, data_dir={os.environ['S3BENCH_DATA']!r}); task.evaluate(task.model())\n"
        "sys.exit(bool({'transformers', 'datasets', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
