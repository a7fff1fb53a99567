"""The training loop: every step's raw loss, learning rate and gradient norm, and how large the updates are."""

from collections.abc import Callable
from typing import Any

import torch

from s3bench.run.checkpoint import Checkpoints
from s3bench.run.divergence import End
from s3bench.run.learner import Learner
from s3bench.run.row_buffer import RowBuffer
from s3bench.run.shock import CALM, Shock


def train(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    lr: Callable[[int], float],
    *,
    first_step: int,
    horizon: int,
    eval_every: int,
    measure_every: int,
    clip_norm: float | None,
    end: End,
    checkpoints: Checkpoints,
    on_steps: Callable[[list[dict[str, Any]]], None],
    on_eval: Callable[[dict[str, Any]], None],
    shock: Shock = CALM,
) -> int:
    """Train the model in place from `first_step` to `horizon`; returns the steps done: fewer where it ended early.

    `loss[t]` is measured before update t, and the evaluation at step t after t updates. The loop never waits for the
    device: a block of rows is fetched when it is full, a second old, or an evaluation is due. Rows end with the loss
    that `end` says is the last, whatever the blocks, and no evaluation follows it.

    Args:
        learner: the task's model, its batches and gradients.
        lr: learning rate of a step.
        eval_every: steps between evaluations; there is also one before the first step and one after the last.
        measure_every: steps between measurements of how large the update (x_t - x_{t-1}) / lr_t is, weight decay
            included, see measure.update_size.
        clip_norm: largest gradient norm, None to clip nothing. The norm before clipping is recorded.
        end: decides which loss is the last, before the horizon.
        checkpoints: written between two steps when they are due, after all rows; they may stop the run.
        on_steps, on_eval: take the rows as they come.
        shock: disturbs some steps.
    """
    batches = learner.batches(first_step)
    block = RowBuffer(learner.processes, first_step, end)
    for step in range(first_step, horizon):
        if checkpoints.is_due(step):
            if not block.flush(on_steps):
                break
            checkpoints.save(step)
        if step % eval_every == 0:
            if not block.flush(on_steps):
                break
            on_eval({"step": step, **learner.evaluate(optimizer)})
        lr_t = lr(step)
        for group in optimizer.param_groups:
            group["lr"] = lr_t
        optimizer.zero_grad()
        loss = learner.backward(shock.batch(step, next(batches)))
        shock.scale(step, learner.params)
        scalars = {"loss": loss, "grad_norm": learner.clip_gradients(clip_norm)}
        if step % measure_every == 0:
            before = learner.coordinates()
            optimizer.step()
            scalars |= learner.update_size(before, lr_t)
        else:
            optimizer.step()
        block.add({"step": step, "lr": lr_t}, scalars)
        if block.is_due() and not block.flush(on_steps):
            break
    if block.flush(on_steps):
        on_eval({"step": horizon, **learner.evaluate(optimizer)})
    return block.steps
