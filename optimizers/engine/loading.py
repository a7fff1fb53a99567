"""Refuses a state_dict that is another optimizer's or another model's, before anything has changed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def refuse_misfits(
    optimizer: Optimizer, found: dict[str, Any], needed: Callable[[dict[str, Any]], Sequence[str]]
) -> None:
    """Raise ValueError if a state_dict is not of this optimizer and these parameters.

    What torch refuses by itself, such as another number of groups, is left to torch.

    Args:
        optimizer: the optimizer that is about to load it.
        found: the state_dict.
        needed: returns the names of a saved group's state tensors; raises KeyError if the group lacks a setting.
    """
    who = type(optimizer).__name__
    for group, saved in zip(optimizer.param_groups, found["param_groups"], strict=False):
        try:
            names = needed(saved)
        except KeyError as error:
            raise ValueError(f"this state_dict is not of {who}: a parameter group has no {error}") from error
        for param, index in zip(group["params"], saved["params"], strict=False):
            state = found["state"].get(index) or {}
            for name in names if state else ():
                if not isinstance(state.get(name), Tensor):
                    raise ValueError(f"this state_dict is not of {who}: the state has no {name!r}, but {list(state)}")
                if reason := misfit(f"the state's {name}", state[name].shape, param.shape):
                    raise ValueError(reason)


def misfit(name: str, found: torch.Size, shape: torch.Size) -> str | None:
    """Return what is wrong where a tensor does not have its parameter's shape; otherwise None."""
    if found == shape:
        return None
    return f"{name} has the shape {tuple(found)}, its parameter {tuple(shape)}: the sizes must be the same"
