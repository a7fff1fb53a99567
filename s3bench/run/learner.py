"""Computes losses and gradients of a task's model: in a precision, in pieces, by one process or several."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from s3bench.errors import UserError
from s3bench.run.build import Clip, DivisibleTask, Task
from s3bench.run.config.schema import RunConfig
from s3bench.run.distributed import ALONE, Processes
from s3bench.run.shock_effects import Batch


class Learner:
    """Trains a task's model: computes losses and gradients, measures updates, and evaluates.

    Args:
        task: the task whose batches and loss are used.
        model: the task's model, on its device; it is changed in place.
        accumulate: number of equal pieces into which this process's rows of a batch are split, to use less memory.
        precision: "float32", or "bf16": torch's autocast to bfloat16, with parameters and updates in float32.
        compile: whether torch.compile compiles the loss.
        channels_last: whether images are stored in memory with their channels last.
        checkpointing: whether the model's blocks are computed again in the backward pass, to use less memory.
        processes: the processes that train the model; each takes its rows of every batch.
        parallel: "ddp": each process holds the whole model; "fsdp2": each holds a part of every parameter.
        ahead: step t trains on the task's batch of step t + ahead.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        *,
        accumulate: int = 1,
        precision: str = "float32",
        compile: bool = False,
        channels_last: bool = False,
        checkpointing: bool = False,
        processes: Processes = ALONE,
        parallel: str = "ddp",
        ahead: int = 0,
    ) -> None:
        self.task, self.model, self.processes, self._ahead = task, model, processes, ahead
        self.device = next(model.parameters()).device
        self._pieces = accumulate
        self._precision: Callable[[], AbstractContextManager[object]] = nullcontext
        if precision == "bf16":
            self._precision = partial(torch.autocast, self.device.type, torch.bfloat16)
        self._channels_last = channels_last
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if checkpointing:
            for block in _blocks(model):
                _checkpoint(block)
        self._trained: Any = model if processes.size == 1 else _spread(model, processes, parallel)
        self._is_sharded = processes.size > 1 and parallel == "fsdp2"
        self._sharers = processes if self._is_sharded else ALONE  # those that hold a part of every parameter each
        self.params = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._loss: Callable[[nn.Module, Batch], Tensor] = torch.compile(task.loss) if compile else task.loss

    @classmethod
    def from_config(cls, config: RunConfig, task: Task, device: torch.device, processes: Processes) -> "Learner":
        """Return a Learner with a new model of the task on a device, and the training options of a config."""
        return cls(
            task,
            task.model().to(device),
            accumulate=config.accumulate,
            precision=config.precision,
            compile=config.compile,
            channels_last=config.channels_last,
            checkpointing=config.checkpointing,
            processes=processes,
            parallel=config.parallel,
            ahead=config.replay.ahead,
        )

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Yield this process's rows of the task's batches, from that of a step on."""
        start_step += self._ahead
        if self.processes.size == 1:
            return iter(self.task.batches(start_step))
        return iter(cast(DivisibleTask, self.task).batches(start_step, rows=self.processes.rows))

    def backward(self, batch: Batch) -> Tensor:
        """Return the batch's loss, 0-d, and add its gradients to those of the parameters.

        Both are means over all rows of all processes.
        """
        batch = tuple(self._moved(tensor) for tensor in batch)
        pieces = [batch] if self._pieces == 1 else zip(*(tensor.chunk(self._pieces) for tensor in batch), strict=True)
        losses = []
        for number, piece in enumerate(pieces, start=1):
            with self._exchanging(number == self._pieces):
                with self._precision():
                    loss = self._loss(self._trained, piece)
                if self._pieces > 1:
                    loss = loss / self._pieces
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        loss = losses[0] if self._pieces == 1 else torch.stack(losses).sum()
        return loss if self.processes.size == 1 else self.processes.sum(loss / self.processes.size)

    def grad_norm(self) -> Tensor:
        """Return the 2-norm of all gradients, 0-d."""
        grads = _local([param.grad for param in self.params if param.grad is not None])
        norms = torch.stack(torch._foreach_norm(grads))
        norm: Tensor = torch.linalg.vector_norm(norms)  # this way takes half the time of torch's get_total_norm
        if self._is_sharded:
            norm = self._sharers.sum(norm.square()).sqrt()
        return norm

    def coordinates(self) -> Tensor:
        """Return a copy of all parameters as one vector, or of this process's part of them."""
        return torch.cat([param.detach().flatten() for param in _local(self.params)])

    def update_size(self, before: Tensor, lr: float) -> dict[str, Tensor]:
        """Measure the update u = (coordinates now - coordinates before) / lr, weight decay included.

        Returns:
            0-d tensors: the root mean square of u, its largest absolute value, the share of its coordinates with
            |u| > 1, and the largest absolute value of a parameter before the update. Weight decay λ adds at most λ
            times the last to |u|.
        """
        update = self.coordinates().sub_(before).div_(lr)
        above = (update.abs() > 1).sum()
        if not self._is_sharded:
            rms = torch.linalg.vector_norm(update) / update.numel() ** 0.5
            sizes = {"update_rms": rms, "update_max": _largest(update), "update_above_1": above / update.numel()}
            return sizes | {"param_max": _largest(before)}
        sharers = self._sharers
        count = sharers.sum(torch.tensor(float(update.numel()), device=update.device))
        return {
            "update_rms": (sharers.sum(update.square().sum()) / count).sqrt(),
            "update_max": sharers.max(_largest(update)),
            "update_above_1": sharers.sum(above.float()) / count,
            "param_max": sharers.max(_largest(before)),
        }

    def evaluate(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Evaluate the task with the model (and a schedule-free optimizer) in eval mode, then switch to train mode."""
        modes: list[Any] = [part for part in (self.model, optimizer) if hasattr(part, "eval")]
        kept = [param.detach().clone() for param in self.params] if optimizer in modes else []
        for part in modes:
            part.eval()  # a schedule-free optimizer puts the averaged weights into the model
        with self._precision():
            result: dict[str, float] = self.task.evaluate(self.model)
        for part in modes:
            part.train()
        with torch.no_grad():
            for param, value in zip(self.params, kept, strict=False):
                param.copy_(value)  # bit for bit; the optimizer's way back from the average rounds
        return result

    def _moved(self, tensor: Tensor) -> Tensor:
        images = self._channels_last and tensor.ndim == 4
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()  # or the copy waits for all queued work
        return tensor.to(
            self.device, non_blocking=True, memory_format=torch.channels_last if images else torch.preserve_format
        )

    def _exchanging(self, now: bool) -> AbstractContextManager[object]:
        """Return a context for a backward pass, after which the processes exchange gradients if `now`."""
        if self._is_sharded:
            self._trained.set_requires_gradient_sync(now)
        elif self.processes.size > 1 and not now:
            skipping: AbstractContextManager[object] = self._trained.no_sync()
            return skipping
        return nullcontext()


def check_rows(task: Task, name: str, processes: Processes, accumulate: int) -> None:
    """Raise UserError unless the task's batches split evenly over the processes and into `accumulate` pieces each."""
    pieces = processes.size * accumulate
    if pieces == 1:
        return
    if "rows" not in signature(task.batches).parameters:
        raise UserError(f"task {name}: its batches cannot be split; use one process and accumulate=1")
    rows = len(next(iter(task.batches(0)))[0])
    if rows % pieces:
        cause = f"{processes.size} process{'es' if processes.size > 1 else ''} × accumulate={accumulate}"
        raise UserError(f"task {name}: its batch of {rows} cannot be split evenly into {pieces} pieces ({cause})")


def check_clip(clip: Clip, config: RunConfig, processes: Processes) -> None:
    """Raise UserError if the clip needs whole tensors and each process has only a part of them."""
    if processes.size > 1 and config.parallel == "fsdp2" and clip.needs_whole_tensors:
        raise UserError(
            f"clip {config.names.clip} needs whole tensors, of which parallel=fsdp2 gives a process a part; "
            "use parallel=ddp, or clip=none, global_norm, value, zclip or update_coordinates"
        )


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model: modules of one class, two or more of which follow one another in a stack."""
    stacks = [part.children() for part in model.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    alike = [list(group) for stack in stacks for _, group in itertools.groupby(stack, type)]
    return [block for group in alike if len(group) > 1 for block in group if any(True for _ in block.parameters())]


def _checkpoint(block: nn.Module) -> None:
    """Make a block compute its activations again in the backward pass instead of keeping them."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
    settings: dict[str, Any] = {"use_reentrant": False}
    if norms:
        settings["context_fn"] = lambda: (nullcontext(), _frozen_statistics(norms))
    block.forward = partial(checkpoint, block.forward, **settings)


@contextmanager
def _frozen_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep running statistics as they are: the second computation would update them a second time."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _spread(model: nn.Module, processes: Processes, parallel: str) -> nn.Module:
    """Return the model wrapped so that several processes train it."""
    device = next(model.parameters()).device
    if parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh  # takes half a second, which other runs need not spend
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _largest(values: Tensor) -> Tensor:
    """Return the largest absolute value, 0 for an empty tensor."""
    if not values.numel():
        return values.new_zeros(())
    smallest, largest = torch.aminmax(values)  # one pass, without memory for absolute values
    return torch.maximum(-smallest, largest)


def _local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return this process's part of each sharded tensor (DTensor), and other tensors as they are."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
