"""torch's schedulers of the learning rate and its averages of weights work with S3, SignSGD, Signum and Muon."""

import copy
import gc
import math
import weakref

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from optimizers import S3, Muon, SignSGD
from tests.optimizers.training import distance, train

STEPS = 12
KINDS = {
    "s3": S3,
    "signsgd": SignSGD,
    "signum": lambda groups, **rest: SignSGD(groups, momentum=0.9, **rest),
    "muon": Muon,
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def warm_up(optimizer):
    return schedulers.ConstantLR(optimizer, 0.1, total_iters=3), schedulers.ExponentialLR(optimizer, 0.9)


SCHEDULES = {  # each with its factor on the learning rate at step t, if it is one
    "LambdaLR": (lambda x: schedulers.LambdaLR(x, lambda t: 0.9**t), lambda t: 0.9**t),
    "MultiplicativeLR": (lambda x: schedulers.MultiplicativeLR(x, lambda _: 0.8), lambda t: 0.8**t),
    "StepLR": (lambda x: schedulers.StepLR(x, 3, gamma=0.5), lambda t: 0.5 ** (t // 3)),
    "MultiStepLR": (lambda x: schedulers.MultiStepLR(x, [2, 5], gamma=0.3), lambda t: 0.3 ** ((t >= 2) + (t >= 5))),
    "ConstantLR": (lambda x: schedulers.ConstantLR(x, 0.25, total_iters=4), lambda t: 0.25 if t < 4 else 1.0),
    "LinearLR": (lambda x: schedulers.LinearLR(x, 0.2, total_iters=5), lambda t: 0.2 + 0.8 * min(t, 5) / 5),
    "ExponentialLR": (lambda x: schedulers.ExponentialLR(x, 0.9), lambda t: 0.9**t),
    "PolynomialLR": (lambda x: schedulers.PolynomialLR(x, 8, power=2), lambda t: (1 - min(t, 8) / 8) ** 2),
    "CosineAnnealingLR": (
        lambda x: schedulers.CosineAnnealingLR(x, STEPS),
        lambda t: (1 + math.cos(math.pi * t / STEPS)) / 2,
    ),
    "CosineAnnealingWarmRestarts": (
        lambda x: schedulers.CosineAnnealingWarmRestarts(x, 4),
        lambda t: (1 + math.cos(math.pi * (t % 4) / 4)) / 2,
    ),
    "ChainedScheduler": (
        lambda x: schedulers.ChainedScheduler([*warm_up(x)]),
        lambda t: (0.1 if t < 3 else 1.0) * 0.9**t,
    ),
    "SequentialLR": (
        lambda x: schedulers.SequentialLR(x, [*warm_up(x)], [3]),
        lambda t: 0.1 if t < 3 else 0.9 ** (t - 3),
    ),
    "ReduceLROnPlateau": (lambda x: schedulers.ReduceLROnPlateau(x, factor=0.5, patience=1), None),
    "OneCycleLR": (lambda x: schedulers.OneCycleLR(x, 0.1, total_steps=STEPS + 1, cycle_momentum=False), None),
    "CyclicLR": (lambda x: schedulers.CyclicLR(x, 0.01, 0.1, step_size_up=3, cycle_momentum=False), None),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def two_groups(kind, **second):
    """Return a matrix and a vector, and an optimizer in which they have learning rates of their own."""
    params = [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)), nn.Parameter(torch.ones(3))]
    groups = [{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.05, **second}]
    return params, kind(groups)


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def trained(optimizer, schedule, params, steps=STEPS, first=0):
    """Return the learning rates of each step; the loss that ReduceLROnPlateau sees falls once and then stays."""
    seen = []
    for step in range(first, first + steps):
        seen.append(rates(optimizer))
        train(optimizer, params, steps=1, first=step)
        if isinstance(schedule, schedulers.ReduceLROnPlateau):
            schedule.step(1.0 if step else 2.0)
        else:
            schedule.step()
    return seen


def test_every_scheduler_of_torch_is_here():
    assert set(schedulers.__all__) - {"LRScheduler", "_LRScheduler"} == SCHEDULES.keys()


@every_schedule
@kinds
def test_a_step_has_the_learning_rate_of_its_group_that_the_schedule_says(kind, name):
    make, factor = SCHEDULES[name]
    params, optimizer = two_groups(kind)
    seen = trained(optimizer, make(optimizer), params)
    of_sgd, sgd = two_groups(torch.optim.SGD)
    assert seen == trained(sgd, make(sgd), of_sgd)
    if factor:
        torch.testing.assert_close(seen, [[0.1 * factor(t), 0.05 * factor(t)] for t in range(STEPS)])
    assert len({rate for rate, _ in seen}) > 1
    others, by_hand = two_groups(kind)
    for step, of_step in enumerate(seen):
        for group, rate in zip(by_hand.param_groups, of_step, strict=True):
            group["lr"] = rate
        train(by_hand, others, steps=1, first=step)
    assert distance(params, others) == 0


@every_schedule
@kinds
def test_a_training_that_is_resumed_is_the_one_that_went_on(kind, name):
    make, _ = SCHEDULES[name]
    params, optimizer = two_groups(kind)
    schedule = make(optimizer)
    trained(optimizer, schedule, params, steps=5)
    others, resumed = two_groups(kind)
    of_resumed = make(resumed)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    of_resumed.load_state_dict(copy.deepcopy(schedule.state_dict()))
    for param, same in zip(others, params, strict=True):
        param.data.copy_(same.data)
    seen = trained(optimizer, schedule, params, steps=7, first=5)
    assert seen == trained(resumed, of_resumed, others, steps=7, first=5)
    assert distance(params, others) == 0


@every_schedule
@kinds
def test_a_learning_rate_that_is_a_tensor_stays_it_and_is_followed(kind, name):
    make, _ = SCHEDULES[name]
    (one, plain), (other, with_tensors) = two_groups(kind), two_groups(kind)
    tensors = [torch.tensor(rate, dtype=torch.float64) for rate in rates(with_tensors)]
    for group, tensor in zip(with_tensors.param_groups, tensors, strict=True):
        group["lr"] = tensor
    seen = trained(plain, make(plain), one)
    torch.testing.assert_close(trained(with_tensors, make(with_tensors), other), seen)
    assert all(group["lr"] is tensor for group, tensor in zip(with_tensors.param_groups, tensors, strict=True))
    assert distance(one, other) < 1e-6


@kinds
def test_a_group_that_comes_later_is_reduced_on_a_plateau_too(kind):
    params, optimizer = two_groups(kind)
    schedule = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    trained(optimizer, schedule, params, steps=2)
    new = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    optimizer.add_param_group({"params": new, "lr": 0.4})
    trained(optimizer, schedule, params + new, steps=1, first=2)
    assert set(rates(optimizer)) == {0.05, 0.025, 0.2}


@kinds
def test_what_groups_have_at_first_is_known_to_a_scheduler_that_starts_later(kind):
    params, optimizer = two_groups(kind)
    trained(optimizer, schedulers.StepLR(optimizer, 3), params, steps=5)
    _, resumed = two_groups(kind)
    resumed.load_state_dict(optimizer.state_dict())
    assert schedulers.StepLR(resumed, 3, last_epoch=4).base_lrs == [0.1, 0.05]


@kinds
def test_a_schedule_that_is_stepped_first_is_told(kind):
    _, optimizer = two_groups(kind)
    schedule = schedulers.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match=r"before `optimizer\.step\(\)`"):
        schedule.step()


@kinds
def test_an_optimizer_under_a_schedule_is_freed_at_once(kind):
    gc.collect()
    gc.disable()
    try:
        params, optimizer = two_groups(kind)
        schedule = schedulers.StepLR(optimizer, 3)
        trained(optimizer, schedule, params, steps=2)
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        known = weakref.ref(optimizer)
        del optimizer, schedule
        assert known() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [schedulers.OneCycleLR, schedulers.CyclicLR])
def test_schedulers_that_cycle_the_momentum_cycle_adamws_first_decay_and_not_the_momentum_of_muon(make):
    params, optimizer = two_groups(Muon)
    schedule = make(optimizer, 0.01, **({"total_steps": 10} if make is schedulers.OneCycleLR else {"max_lr": 0.1}))
    trained(optimizer, schedule, params, steps=3)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.95, 0.95]
    assert all(0.8 < group["betas"][0] < 0.95 and group["betas"][1] == 0.95 for group in optimizer.param_groups)


def test_muons_two_groups_of_one_have_a_function_each():
    params = list(nn.Linear(3, 2).parameters())
    optimizer = Muon(params, lr=0.1)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas"):
        schedulers.LambdaLR(optimizer, [lambda _: 1.0])
    trained(optimizer, schedulers.LambdaLR(optimizer, [lambda _: 1.0, lambda t: 0.5**t]), params, steps=2)
    assert rates(optimizer) == [0.1, 0.025]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def batches(number):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=generator) for _ in range(number)]


def fitted(model, optimizer, data, after=lambda: None):
    for batch in data:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        after()
    return model


@pytest.mark.parametrize("decay", [None, 0.9])
@kinds
def test_averaged_weights_are_the_average_and_training_goes_on_as_without(kind, decay):
    model, alone = network(), network()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay) if decay else None)
    visited = []

    def average():
        averaged.update_parameters(model)
        visited.append([param.detach().clone() for param in model.parameters()])

    fitted(model, kind(model.parameters(), lr=0.1), batches(6), average)
    fitted(alone, kind(alone.parameters(), lr=0.1), batches(6))
    assert distance(model.parameters(), alone.parameters()) == 0
    expected = visited[0]
    for number, params in enumerate(visited):
        keep = decay or number / (number + 1)
        expected = [keep * old + (1 - keep) * new for old, new in zip(expected, params, strict=True)]
    torch.testing.assert_close(list(averaged.parameters()), expected)
    assert distance(model.parameters(), averaged.parameters()) > 1e-2


@kinds
def test_averaging_is_resumed_with_its_optimizer(kind):
    model = network()
    optimizer, averaged = kind(model.parameters(), lr=0.1), AveragedModel(model)
    fitted(model, optimizer, batches(6)[:3], lambda: averaged.update_parameters(model))
    again = network()
    resumed, of_resumed = kind(again.parameters(), lr=0.1), AveragedModel(again)
    for one, other in ((resumed, optimizer), (again, model), (of_resumed, averaged)):
        one.load_state_dict(copy.deepcopy(other.state_dict()))
    fitted(model, optimizer, batches(6)[3:], lambda: averaged.update_parameters(model))
    fitted(again, resumed, batches(6)[3:], lambda: of_resumed.update_parameters(again))
    assert distance(averaged.parameters(), of_resumed.parameters()) == 0


@pytest.mark.parametrize("strategy", ["linear", "cos"])
@kinds
def test_swalr_takes_each_group_from_its_learning_rate_to_that_of_averaging(kind, strategy):
    params, optimizer = two_groups(kind)
    trained(optimizer, schedulers.ExponentialLR(optimizer, 0.5), params, steps=2)
    schedule = SWALR(optimizer, swa_lr=[0.2, 0.01], anneal_epochs=4, anneal_strategy=strategy)
    seen = trained(optimizer, schedule, params, steps=6, first=2)
    shares = [min(t, 4) / 4 for t in range(6)]
    if strategy == "cos":
        shares = [(1 - math.cos(math.pi * share)) / 2 for share in shares]
    torch.testing.assert_close(seen, [[0.025 + 0.175 * s, 0.0125 - 0.0025 * s] for s in shares])


@kinds
def test_update_bn_measures_the_data_under_averaged_weights(kind):
    model = network()
    averaged = AveragedModel(model)
    fitted(model, kind(model.parameters(), lr=0.1), batches(6), lambda: averaged.update_parameters(model))
    averaged.eval()
    update_bn(batches(6), averaged)
    inputs = torch.stack([averaged.module[0](batch) for batch in batches(6)])
    norm = averaged.module[1]
    torch.testing.assert_close(norm.running_mean, inputs.mean(1).mean(0))
    torch.testing.assert_close(norm.running_var, inputs.var(1).mean(0))
    assert norm.momentum == 0.1
    assert not averaged.training
