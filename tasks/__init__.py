"""Tasks: one file each, with data, model, loss and metric. They know torch and nothing of the benchmark.

A task is a class with these methods:

    model() -> nn.Module
        Return a freshly initialised model. The caller seeds torch.
    batches(start_step) -> iterator of batches
        Yield tuples of tensors; batch t depends on (seed, t) alone. With rows=slice(...), which a task needs to be
        trained by several processes, yield these rows of each batch.
    loss(model, batch) -> 0-d tensor
        Return the loss of one batch.
    evaluate(model) -> {"loss": float, <metric>: float}
        Return the loss and the metrics on fixed held-out data, computed on the model's device.
    fingerprint() -> str
        Return a digest of the data.

It may have one more:

    shocked(batch, kind, generator) -> batch
        Return a disturbed batch: kind "noise" has noise instead of inputs, kind "labels" has permuted labels, kind
        "token" has rows that are all alike. Random numbers come from the generator. Raise ValueError for a kind that
        makes no sense here. Without this method the benchmark takes the first tensor as inputs and the last of several
        as labels; noise is normal, and "token" repeats the batch's first row.
"""
