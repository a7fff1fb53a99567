"""Adds the powers of S3's norm where nothing is compiled."""

import torch
from torch import Tensor

from .calls import Quotient, number, root_
from .roots import Power


def in_few_calls(
    n: Tensor, norm: Tensor, new: Tensor, beta: float, bound: float | None, power: Power, *, nesterov: bool
) -> Tensor | Quotient:
    """Return n_t / b_t, and update the norm; see _rule of S3.

    `norm` is (β s_{t-1})^{1/p} and becomes s_t^{1/p}. `new` is ((1-β) |g|^p)^{1/p}, and its memory is used. β is at
    least 1/2. Sums of powers are computed relative to the former norm:

        s_t = β s_{t-1} (1 + share), with share = (1-β) |g|^p / (β s_{t-1}),
        b_t^p = β s_{t-1} (β + (1 + β) share) = β^2 s_{t-1} (1 + (1 + 1/β) share).

    A norm that is too small to count beside the gradient's term is raised first, so that share is at most 2^25 (2^54 in
    float64), and to 2^-124 in any case. So 2^-124 is one of the terms, which counts below p = 2 where the gradients
    have always been denormal numbers.
    """
    limits, p, factor = torch.finfo(n.dtype), power.exponent, 1.0
    least = number(4 * limits.smallest_normal, n)
    if p == 1:  # a sum needs no power
        below = norm.add_(new).clamp_min_(least)
        if nesterov:
            below = new.add_(norm, alpha=beta).clamp_min_(least)
    else:
        lowest = new * number((limits.eps / 4) ** (1 / p), new)
        share = power(new.div_(norm.clamp_min_(lowest).clamp_min_(least)))
        if nesterov:
            below, factor = root_(share * number(1 + 1 / beta, share), 1 / p).mul_(norm), beta ** (-1 / p)
            norm.mul_(root_(share, 1 / p))
        else:
            below = norm.mul_(root_(share, 1 / p))
    return Quotient(n, below, factor) if bound is None else (n / below).mul_(factor).clamp_(-bound, bound)
