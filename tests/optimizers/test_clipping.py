"""Every rule of optimizers/clipping.py against values computed by hand."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from optimizers import S3, clipping
from optimizers.clipping import AGC, AdaGC, Clip, GlobalNorm, UpdateCoordinates, UpdateRMS, Value, ZClip
from tests.optimizers.training import devices

ALL = [Clip(), GlobalNorm(0.5), Value(0.1), AdaGC(warmup_steps=3), AGC(), ZClip(warmup_steps=2)]
ALL += [UpdateCoordinates(0.5), UpdateRMS(0.5), UpdateRMS(0.5, over="all")]
SCALING = [GlobalNorm(0.5), AdaGC(warmup_steps=1), AdaGC(warmup_steps=9), AGC(), ZClip(warmup_steps=2)]
every_clip = pytest.mark.parametrize("made", ALL, ids=lambda clip: type(clip).__name__)


def parameters(*values, device="cpu"):
    return [nn.Parameter(torch.tensor(value, dtype=torch.float32, device=device)) for value in values]


def norm_of(params):
    norms = [param.grad.norm() for param in params if param.grad is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def clipped(clip, params, *grads):
    """Return what a clip makes of these gradients, one per parameter or None, as lists."""
    for param, grad in zip(params, grads, strict=True):
        param.grad = None if grad is None else torch.tensor(grad, dtype=torch.float32, device=param.device)
    clip.before_step(params, norm_of(params))
    return [None if param.grad is None else param.grad.tolist() for param in params]


def approx(values, rel=1e-5):
    return [value if value is None else pytest.approx(value, rel=rel, abs=1e-12) for value in values]


def test_the_base_class_changes_nothing():
    params = parameters([1.0, 2.0])
    assert clipped(Clip(), params, [3.0, 4.0]) == [[3.0, 4.0]]
    assert Clip().state_dict() == {}


def test_the_global_norm_is_that_of_torch_bit_for_bit():
    torch.manual_seed(0)
    grads = [torch.randn(5, 7), torch.randn(3)]
    for max_norm in (0.3, 100.0):
        own, torchs = parameters(*[[0.0]] * 2), parameters(*[[0.0]] * 2)
        for param, other, grad in zip(own, torchs, grads, strict=True):
            param.data, other.data = torch.zeros_like(grad), torch.zeros_like(grad)
            param.grad, other.grad = grad.clone(), grad.clone()
        norm = nn.utils.clip_grad_norm_(torchs, max_norm)
        GlobalNorm(max_norm).before_step(own, norm)
        assert all(torch.equal(param.grad, other.grad) for param, other in zip(own, torchs, strict=True))
        assert torch.equal(own[0].grad, grads[0]) == (max_norm == 100)


def test_value_clamps_every_coordinate():
    params = parameters([0.0] * 3, [0.0])
    assert clipped(Value(2.0), params, [3.0, -5.0, 1.0], [math.inf]) == [[2.0, -2.0, 1.0], [2.0]]
    assert math.isnan(clipped(Value(2.0), parameters([0.0]), [math.nan])[0][0])


def test_adagc_by_hand():
    clip, params = AdaGC(lambda_rel=1.5, lambda_abs=1.0, beta=0.75, warmup_steps=3), parameters([0.0, 0.0], [0.0])
    # The warm-up is steps 1 and 2. Step 1: norm 13, factor 1/13; γ = 5/13, 12/13.
    assert clipped(clip, params, [3.0, 4.0], [12.0]) == approx([[3 / 13, 4 / 13], [12 / 13]])
    # Step 2: norm 0.5, factor 1; γ = min(5/13, 0.3), min(12/13, 0.4).
    assert clipped(clip, params, [0.3, 0.0], [0.4]) == approx([[0.3, 0.0], [0.4]])
    # Step 3: at most 1.5 γ = 0.45 and 0.6; γ = 0.75 · 0.3 + 0.25 · 0.45, 0.75 · 0.4 + 0.25 · 0.5.
    assert clipped(clip, params, [0.0, 0.9], [-0.5]) == approx([[0.0, 0.45], [-0.5]])
    # Step 4: at most 1.5 · 0.3375 and 1.5 · 0.425.
    assert clipped(clip, params, [-3.0, 4.0], [7.0]) == approx([[-0.6 * 0.50625, 0.8 * 0.50625], [0.6375]])


def test_adagc_agrees_with_the_library():
    library = pytest.importorskip("pytorch_optimizer")
    torch.manual_seed(0)
    start = [torch.randn(4, 3), torch.randn(5)]
    own, others = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    setting = {"beta": 0.9, "warmup_steps": 6}
    clip = AdaGC(**setting)
    adam = torch.optim.AdamW(own, lr=0.1, weight_decay=0.0)
    adagc = library.AdaGC(others, lr=0.1, weight_decay=0.0, **setting)
    for step in range(20):
        for one, other in zip(own, others, strict=True):
            one.grad = torch.randn(one.shape) * (30 if step in (3, 12) else 1)
            other.grad = one.grad.clone()
        clip.before_step(own, norm_of(own))
        adam.step()
        adagc.step()
    for one, other in zip(own, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_adagc_trains_a_tensor_whose_first_gradients_are_zero():
    clip, params = AdaGC(lambda_abs=1.0, warmup_steps=3), parameters([0.0], [0.0])
    clipped(clip, params, [3.0], [0.0])
    clipped(clip, params, [3.0], [0.0])
    assert clipped(clip, params, [1.0], [2.0])[1] == [2.0]  # it has no average to be held against yet
    assert clipped(clip, params, [1.0], [8.0])[1] == [pytest.approx(2.1)]


def test_agc_by_hand():
    params = parameters([[3.0, 4.0], [0.0, 0.0]], [0.6, 0.8], [[[[3.0]], [[4.0]]]], 2.0)
    grads = [[[0.3, 0.4], [1.0, 0.0]], [0.003, 0.004], [[[[30.0]], [[40.0]]]], 5.0]
    got = clipped(AGC(clipping=0.01, eps=1e-3), params, *grads)
    assert got[0] == [approx([0.03, 0.04]), approx([1e-5, 0.0])]  # rows of norm 5 and 0, which counts as 0.001
    assert got[1:2] == approx([[0.003, 0.004]])  # a vector of norm 1 is one unit: 0.005 is little enough
    assert params[2].grad.flatten().tolist() == approx([0.03, 0.04])  # a filter of norm 5
    assert got[3] == pytest.approx(0.02)


def test_agc_agrees_with_the_library():
    library = pytest.importorskip("pytorch_optimizer.optimizer.agc")
    torch.manual_seed(0)
    for shape in ((5, 3), (4, 2, 3, 3), (6,)):
        param, grad = nn.Parameter(torch.randn(shape)), torch.randn(shape)
        param.grad = grad.clone()
        AGC(clipping=0.3).before_step([param], grad.norm())
        if len(shape) != 1:
            torch.testing.assert_close(param.grad, library.agc(param, grad, 1e-3, 0.3))
        else:  # each coordinate of a vector is a unit of the library's; the paper's code takes it as one
            torch.testing.assert_close(param.grad, grad * min(1, 0.3 * param.norm().item() / grad.norm().item()))


def test_zclip_by_hand():
    clip, params = ZClip(z_thresh=2.0, alpha=0.5, warmup_steps=2, eps=1e-6), parameters([0.0, 0.0])
    assert clipped(clip, params, [3.0, 4.0]) == [[3.0, 4.0]]
    assert clipped(clip, params, [0.0, 7.0]) == [[0.0, 7.0]]  # mean 6, variance 1
    # z = 5: the norm becomes 6 + 1 · 2² / 5 = 6.8; mean 0.5 · 6 + 0.5 · 6.8 = 6.4, variance 0.5 + 0.5 · 0.4² = 0.58
    assert clipped(clip, params, [0.0, 11.0]) == approx([[0.0, 6.8]])
    # z = 1.6 / √0.58 = 2.1: the norm becomes 6.4 + 4 · 0.58 / 1.6 = 7.85; mean 7.125, variance 0.29 + 0.725² / 2
    assert clipped(clip, params, [-8.0, 0.0]) == approx([[-7.85, 0.0]])
    # z = 0.375 / 0.7434 is below 2
    assert clipped(clip, params, [7.5, 0.0]) == [[7.5, 0.0]]
    assert clip.state_dict()["state"].tolist() == approx([5, 7.3125, 0.5528125 / 2 + 0.1875**2 / 2])


def step(clip, params, changes, lr=0.5):
    """Change parameters as an optimizer would, with a clip around it."""
    clip.before_step(params, torch.ones(()))
    with torch.no_grad():
        for param, change in zip(params, changes, strict=True):
            param.add_(torch.tensor(change))
    clip.after_step(params, lr)
    return [param.tolist() for param in params]


def test_update_coordinates_by_hand():
    clip, params = UpdateCoordinates(max=2.0), parameters([1.0, 2.0, 3.0], [4.0])
    assert step(clip, params, [[0.7, -3.0, 1.5], [0.0]]) == approx([[1.7, 1.0, 4.0], [4.0]])
    assert step(clip, params, [[-0.2, 1.0, -1.0], [9.0]], lr=0.1) == approx([[1.5, 1.2, 3.8], [4.2]])


@pytest.mark.parametrize(
    ("over", "expected"),
    # the root mean squares of u are 5/√2 · 2 and 1 · 2, that over all coordinates √(26/3) · 2
    [
        ("tensor", [[3 / 5 * 2**0.5, 4 / 5 * 2**0.5], [1.0]]),
        ("all", [[3 * (3 / 26) ** 0.5, 4 * (3 / 26) ** 0.5], [(3 / 26) ** 0.5]]),
    ],
)
def test_update_rms_by_hand(over, expected):
    clip, params = UpdateRMS(max=2.0, over=over), parameters([0.0, 0.0], [0.0])
    assert step(clip, params, [[3.0, 4.0], [1.0]]) == approx(expected)
    before = [param.tolist() for param in params]
    small = step(clip, params, [[0.3, 0.4], [-0.1]])
    assert small == approx([[before[0][0] + 0.3, before[0][1] + 0.4], [before[1][0] - 0.1]])


@pytest.mark.parametrize("clip", [UpdateCoordinates(1.0), UpdateRMS(1.0), UpdateRMS(1.0, over="all")])
def test_an_update_within_the_bound_is_left_bit_for_bit(clip):
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(50, 3)), nn.Parameter(torch.randn(7))]
    changes = [0.1 * torch.randn(param.shape) for param in params]
    plain = [param.detach() + change for param, change in zip(params, changes, strict=True)]
    step(clip, params, [change.tolist() for change in changes], lr=0.5)
    assert all(torch.equal(param, other) for param, other in zip(params, plain, strict=True))


@pytest.mark.parametrize("clip", [UpdateCoordinates(1.0), UpdateRMS(1.0), UpdateRMS(1.0, over="all")])
def test_a_learning_rate_of_zero_keeps_the_parameters(clip):
    assert step(clip, parameters([1.0, 2.0]), [[0.0, 0.0]], lr=0.0) == [[1.0, 2.0]]


def test_the_update_that_is_bounded_includes_weight_decay():
    (param,) = params = parameters([10.0])
    param.grad = torch.zeros(1)
    optimizer, clip = torch.optim.AdamW(params, lr=0.1, weight_decay=0.5), UpdateCoordinates(2.0)
    clip.before_step(params, torch.zeros(()))
    optimizer.step()
    clip.after_step(params, 0.1)
    assert param.item() == pytest.approx(9.8)


def trained(clip, steps, *, maximize=False, start=0, state=None, device="cpu"):
    """Train two tensors on noise that has outliers; return them, and the states of optimizer and clip."""
    torch.manual_seed(1)
    params = [nn.Parameter(torch.randn(4, 3).to(device)), nn.Parameter(torch.randn(5).to(device))]
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9, maximize=maximize)
    if state:
        for param, value in zip(params, state[0], strict=True):
            param.data.copy_(value)
        optimizer.load_state_dict(state[1])
        clip.load_state_dict(state[2])
    for number in range(start, steps):
        generator = torch.Generator().manual_seed(number)
        for param in params:
            scale = (-1 if maximize else 1) * (20 if number % 4 == 3 else 1)
            param.grad = (scale * torch.randn(param.shape, generator=generator)).to(device)
        clip.before_step(params, norm_of(params))
        optimizer.step()
        clip.after_step(params, 0.1)
    return [param.detach().clone() for param in params], optimizer.state_dict(), clip.state_dict()


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


@every_clip
def test_its_state_goes_on_bit_for_bit(made, tmp_path):
    whole = trained(copy.deepcopy(made), 12)
    half = trained(copy.deepcopy(made), 7)
    torch.save(half, tmp_path / "half.pt")
    read = torch.load(tmp_path / "half.pt", weights_only=True)
    assert equal(trained(copy.deepcopy(made), 12, start=7, state=read), whole)
    if half[2]:
        assert not equal(
            trained(copy.deepcopy(made), 12, start=7, state=(*half[:2], copy.deepcopy(made).state_dict())), whole
        )


@every_clip
def test_a_state_that_was_taken_does_not_change_with_further_steps(made):
    clip = copy.deepcopy(made)
    state = trained(clip, 7)[2]
    kept = copy.deepcopy(state)
    trained(clip, 9)
    assert str(state) == str(kept)


@every_clip
def test_a_fresh_state_can_be_saved_and_restored(made):
    clip = copy.deepcopy(made)
    clip.load_state_dict(copy.deepcopy(made).state_dict())
    assert equal(trained(clip, 5), trained(copy.deepcopy(made), 5))


@every_clip
def test_an_optimizer_that_maximizes_is_clipped_alike(made):
    assert equal(trained(copy.deepcopy(made), 8), trained(copy.deepcopy(made), 8, maximize=True))


@every_clip
def test_it_clips_something_and_the_outliers_do_less(made):
    def longest(clip):
        return max(value.abs().max().item() for value in trained(clip, 8)[0])

    assert (longest(copy.deepcopy(made)) < longest(Clip())) == (type(made) is not Clip)


@every_clip
def test_a_parameter_without_a_gradient_is_skipped(made):
    clip, params = copy.deepcopy(made), parameters([1.0], [2.0], [3.0])
    for _ in range(6):
        assert clipped(clip, params, [5.0], None, [0.5])[1] is None
        clip.after_step(params, 0.1)
    clipped(clip, params, None, [5.0], None)
    clipped(clip, params, None, None, None)
    clip.after_step(params, 0.1)
    assert [param.tolist() for param in params] == [[1.0], [2.0], [3.0]]


@every_clip
def test_zero_gradients_stay_zero_and_leave_no_nan_behind(made):
    clip, params = copy.deepcopy(made), parameters([1.0, 2.0], [[3.0]])
    for _ in range(6):
        assert clipped(clip, params, [0.0, 0.0], [[0.0]]) == [[0.0, 0.0], [[0.0]]]
        clip.after_step(params, 0.1)
    assert all(math.isfinite(value) for value in itertools.chain(*clipped(clip, params, [0.1, 0.2], [[0.3]])[:1]))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("made", SCALING, ids=lambda clip: type(clip).__name__)
def test_a_gradient_that_is_not_finite_is_not_learned_from(made, bad):
    clip, other = copy.deepcopy(made), copy.deepcopy(made)
    params = parameters([1.0, 2.0], [3.0])
    for number in range(5):
        for one in (clip, other):
            clipped(one, params, [3.0 + number, 4.0], [1.0])
    (first, _), _ = clipped(clip, params, [bad, 4.0], [1.0])
    assert not math.isfinite(first)
    if not isinstance(made, GlobalNorm):
        assert first == pytest.approx(bad, nan_ok=True)
    if isinstance(made, AdaGC):
        clipped(other, params, None, None)
    good = [clipped(one, params, [30.0, 40.0], [20.0]) for one in (clip, other)]
    assert good[0] == good[1]


@devices
@every_clip
def test_it_never_waits_for_the_device(made, device):
    if device == "cuda":
        clip = copy.deepcopy(made)
        trained(clip, 3, device=device)
        params = [nn.Parameter(torch.randn(4, 3, device=device)), nn.Parameter(torch.randn(5, device=device))]
        for param in params:
            param.grad = torch.randn_like(param)
        norm = norm_of(params)
        torch.cuda.set_sync_debug_mode("error")
        try:
            clip.before_step(params, norm)
            clip.after_step(params, 0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(
        trained(copy.deepcopy(made), 8, device=device)[0], trained(copy.deepcopy(made), 8)[0], strict=True
    ):
        torch.testing.assert_close(one.cpu(), other)


def test_it_goes_with_an_optimizer_of_ones_own():
    (param,) = params = parameters([1.0, -1.0])
    optimizer, clip = S3(params, lr=0.1, weight_decay=0.0), UpdateCoordinates(0.2)
    param.grad = torch.tensor([3.0, -2.0])
    clip.before_step(params, norm_of(params))
    optimizer.step()
    clip.after_step(params, 0.1)
    assert param.tolist() == approx([0.98, -0.98])


def test_every_class_says_what_is_allowed():
    for wrong, said in {
        "GlobalNorm(0.0)": "max_norm is 0.0; it must be a number above 0",
        "Value(-1.0)": "max_value is -1.0; it must be a number above 0",
        "UpdateRMS(over='x')": "over is 'x'; it must be tensor or all",
        "AdaGC(warmup_steps=1.5)": "warmup_steps is 1.5; it must be a whole number, 0 or more",
        "ZClip(alpha=1.5)": "alpha is 1.5; it must be from 0 to below 1",
    }.items():
        with pytest.raises(ValueError, match=said):
            eval(wrong, vars(clipping))
