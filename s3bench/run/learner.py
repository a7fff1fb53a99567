"""A task's model as it is trained: on its device, in its precision, in pieces, by one process or several."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from s3bench.errors import UserError
from s3bench.run.distributed import ALONE, Processes

Batch = tuple[Tensor, ...]


class Learner:
    """A task's model, with the gradients of its batches.

    Args:
        task: see tasks/__init__.py.
        model: the task's, on the device; it is changed in place.
        accumulate: into how many pieces a process's rows of a batch are cut, to need less memory; they divide it.
        precision: "float32", or "bf16": torch's autocast to bfloat16, parameters and their updates in float32.
        compile: whether the loss is compiled by torch.compile.
        channels_last: whether images lie in memory with their channels last.
        checkpointing: whether a model's blocks are computed again in the backward pass, to need less memory.
        processes: those that train the model; each takes its rows of a batch.
        parallel: "ddp": each has the whole model; "fsdp2": each has a part of every parameter.
    """

    def __init__(
        self,
        task: Any,
        model: nn.Module,
        *,
        accumulate: int = 1,
        precision: str = "float32",
        compile: bool = False,
        channels_last: bool = False,
        checkpointing: bool = False,
        processes: Processes = ALONE,
        parallel: str = "ddp",
    ) -> None:
        self.task, self.model, self.processes = task, model, processes
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
        self.params = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._loss: Callable[[nn.Module, Batch], Tensor] = torch.compile(task.loss) if compile else task.loss

    def batches(self, start_step: int) -> Iterator[Batch]:
        """This process's rows of the task's batches."""
        if self.processes.size == 1:
            return iter(self.task.batches(start_step))
        return iter(self.task.batches(start_step, rows=self.processes.rows))

    def backward(self, batch: Batch) -> Tensor:
        """The batch's loss, 0-d, and its gradients in the parameters: the means over all rows of all processes."""
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

    def clip_gradients(self, clip_norm: float | None) -> Tensor:
        """The gradient's norm, 0-d, before it is clipped to `clip_norm`, None: not clipped."""
        return clip_gradients(self.params, clip_norm, self._sharers)

    def update_size(self, before: Tensor, lr: float) -> dict[str, Tensor]:
        """How large the update since `before` is, over lr, see measure.py."""
        return update_size(before, self.coordinates(), lr, self._sharers)

    def coordinates(self) -> Tensor:
        """A copy of this process's part of all parameters as one vector."""
        return coordinates(self.params)

    def evaluate(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """The task's evaluation, the model, and an optimizer that has modes, in evaluation mode; then they train."""
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
                param.copy_(value)  # to the bit: back from the average they are rounded
        return result

    @property
    def _sharers(self) -> Processes:
        """The processes that each have a part of the parameters."""
        return self.processes if self._is_sharded else ALONE

    def _moved(self, tensor: Tensor) -> Tensor:
        images = self._channels_last and tensor.ndim == 4
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()  # or the copy waits for all that is queued
        return tensor.to(
            self.device, non_blocking=True, memory_format=torch.channels_last if images else torch.preserve_format
        )

    def _exchanging(self, now: bool) -> AbstractContextManager[object]:
        """Whether gradients are exchanged between processes after the backward pass in the block."""
        if self._is_sharded:
            self._trained.set_requires_gradient_sync(now)
        elif self.processes.size > 1 and not now:
            skipping: AbstractContextManager[object] = self._trained.no_sync()
            return skipping
        return nullcontext()


def check_rows(task: Any, name: str, processes: Processes, accumulate: int) -> None:
    """Raise UserError unless the task's batches can be cut into so many equal pieces."""
    pieces = processes.size * accumulate
    if pieces == 1:
        return
    if "rows" not in signature(task.batches).parameters:
        raise UserError(f"task {name}: its batches cannot be cut, so that it takes one process and accumulate=1")
    rows = len(next(iter(task.batches(0)))[0])
    if rows % pieces:
        what = f"{processes.size} processes and accumulate={accumulate}"
        raise UserError(f"task {name}: its batch of {rows} cannot be cut evenly for {what}, into {pieces} pieces")


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that a model is a stack of: where two or more modules of one class follow one another."""
    stacks = [part.children() for part in model.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    alike = [list(group) for stack in stacks for _, group in itertools.groupby(stack, type)]
    return [block for group in alike if len(group) > 1 for block in group if any(True for _ in block.parameters())]


def _checkpoint(block: nn.Module) -> None:
    """Have a block's activations computed again in the backward pass."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
    settings: dict[str, Any] = {"use_reentrant": False}
    if norms:
        settings["context_fn"] = lambda: (nullcontext(), _still(norms))
    block.forward = partial(checkpoint, block.forward, **settings)


@contextmanager
def _still(norms: list[_BatchNorm]) -> Iterator[None]:
    """Running statistics do not move: the second computation would move them once more."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _spread(model: nn.Module, processes: Processes, parallel: str) -> nn.Module:
    """The model as several processes train it."""
    device = next(model.parameters()).device
    if parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh  # half a second that only this way pays
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def clip_gradients(params: list[nn.Parameter], clip_norm: float | None, sharers: Processes = ALONE) -> Tensor:
    """The 2-norm of all gradients before clipping, 0-d; above `clip_norm` they are scaled down to it in place.

    `sharers` are the processes that each have a part of every parameter.
    """
    grads = _local([param.grad for param in params if param.grad is not None])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))  # half the time of get_total_norm
    if sharers.size > 1:
        norm = sharers.sum(norm.square()).sqrt()
    if clip_norm is not None:
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def coordinates(params: list[nn.Parameter]) -> Tensor:
    """A copy of all parameters, of this process's part of them, as one vector."""
    return torch.cat([param.detach().flatten() for param in _local(params)])


def update_size(before: Tensor, after: Tensor, lr: float, sharers: Processes = ALONE) -> dict[str, Tensor]:
    """How large an update u = (after - before) / lr is, as 0-d tensors; `after` is overwritten.

    The root mean square of u, its largest absolute value, the share of its coordinates with |u| > 1, and the largest
    absolute value of a parameter before it: weight decay λ adds at most λ times that to |u|.
    """
    update = after.sub_(before).div_(lr)
    above = (update.abs() > 1).sum()
    if sharers.size == 1:
        rms = torch.linalg.vector_norm(update) / update.numel() ** 0.5
        sizes = {"update_rms": rms, "update_max": _largest(update), "update_above_1": above / update.numel()}
        return sizes | {"param_max": _largest(before)}
    count = sharers.sum(torch.tensor(float(update.numel()), device=update.device))
    return {
        "update_rms": (sharers.sum(update.square().sum()) / count).sqrt(),
        "update_max": sharers.max(_largest(update)),
        "update_above_1": sharers.sum(above.float()) / count,
        "param_max": sharers.max(_largest(before)),
    }


def _largest(values: Tensor) -> Tensor:
    """The largest absolute value, 0 of nothing."""
    if not values.numel():
        return values.new_zeros(())
    smallest, largest = torch.aminmax(values)  # in one pass, and no memory for absolute values
    return torch.maximum(-smallest, largest)


def _local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This process's parts of tensors that may be spread over several (DTensor)."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
