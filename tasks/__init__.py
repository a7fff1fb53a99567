"""Tasks: each a file with data, model, loss and metric. They know torch and nothing of the benchmark.

A task is a class with
    model() -> nn.Module                           a freshly initialised model; the caller seeds torch
    batches(start_step) -> iterator of batches     tuples of tensors; batch t is a function of (seed, t) alone;
                                                   with rows=slice(...), for several processes, these rows of each
    loss(model, batch) -> 0-d tensor
    evaluate(model) -> {"loss": float, ...}        on fixed held-out data, on the device of the model
    fingerprint() -> str                           of the data
It may have
    shocked(batch, kind, generator) -> batch       kind "noise": noise for inputs; "labels": permuted labels; drawn from
                                                   the generator; ValueError for a kind that it has no sense of. Without
                                                   it run/shock.py takes the first tensor for inputs, the last of
                                                   several for labels, and draws normal numbers
"""
