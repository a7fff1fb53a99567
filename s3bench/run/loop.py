"""The training loop: records the raw loss, learning rate and gradient norm of every step, and the size of updates."""

from collections.abc import Callable

import torch

from s3bench.run.build import Clip
from s3bench.run.checkpoint import Saving
from s3bench.run.divergence import EarlyStop
from s3bench.run.learner import Learner
from s3bench.run.row_buffer import Row, RowBuffer
from s3bench.run.shock import NO_SHOCK, Shock


def train(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    lr: Callable[[int], float],
    *,
    first_step: int,
    horizon: int,
    eval_every: int,
    measure_every: int,
    clip: Clip,
    early_stop: EarlyStop,
    checkpoints: Saving,
    on_steps: Callable[[list[Row]], None],
    on_eval: Callable[[Row], None],
    shock: Shock = NO_SHOCK,
) -> int:
    """Train the model in place from `first_step` to `horizon`, and return how many steps the run has done in all.

    `loss[t]` is measured before update t, the evaluation at step t after t updates. Nothing waits for the device: rows
    are fetched together, see RowBuffer. After a loss that `early_stop` finds to be the last, no row follows.

    Args:
        learner: computes the loss and the gradients of the task's batches.
        lr: returns the learning rate of a step.
        eval_every: steps between evaluations; one precedes the first step, one follows the last.
        measure_every: steps between measurements of the update's size, see Learner.update_size.
        clip: clips gradients before the optimizer's step, or updates after it; the norm before clipping is recorded.
        checkpoints: written between two steps when they are due, after all rows so far; they may stop the run.
        on_steps, on_eval: take the rows as they come.
        shock: disturbs some steps.
    """
    batches = learner.batches(first_step)
    buffer = RowBuffer(on_steps, early_stop, learner.processes, first_step)
    for step in range(first_step, horizon):
        save_now, evaluate_now = checkpoints.is_due(step), step % eval_every == 0
        if (save_now or evaluate_now) and not buffer.flush():
            break
        if save_now:
            checkpoints.save(step)
        if evaluate_now:
            on_eval({"step": step, **learner.evaluate(optimizer)})
        shock.on_state(step, optimizer)
        lr_t = shock.lr(step, lr(step))
        for group in optimizer.param_groups:
            group["lr"] = lr_t
        optimizer.zero_grad()
        loss = learner.backward(shock.batch(step, next(batches)))
        shock.on_gradients(step, learner.params)
        clip.before_step(learner.params, norm := learner.grad_norm())
        before = learner.coordinates() if step % measure_every == 0 else None
        optimizer.step()
        clip.after_step(learner.params, lr_t)
        sizes = {} if before is None else learner.update_size(before, lr_t)
        shock.on_parameters(step, learner.params)
        buffer.add({"step": step, "lr": lr_t}, {"loss": loss, "grad_norm": norm, **sizes})
        if buffer.is_due() and not buffer.flush():
            break
    if buffer.flush():
        on_eval({"step": horizon, **learner.evaluate(optimizer)})
    return buffer.steps
