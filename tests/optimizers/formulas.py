"""Every optimizer's step as in its paper, in float64: the tests compare each YAML of configs/optimizer with it.

A step maps (state, x, g, lr, decay) to the new x; state["t"] counts the steps from 1. Where a paper and its authors'
code differ, as in a first value or a bias correction, the step follows the code and its docstring says so.
"""

import math

import numpy as np

EPS = 1e-8
HORIZON = 20  # steps; AdEMAMix's settings depend on it


def average(state, name, beta, value):
    """Return the running average of the values so far, which starts at 0."""
    state[name] = beta * state.get(name, 0) + (1 - beta) * value
    return state[name]


def decoupled(update):
    """Weight decay beside the update (Loshchilov & Hutter, arXiv 1711.05101)."""
    return lambda state, x, g, lr, decay: x * (1 - lr * decay) - lr * update(state, g)


def l2(update):
    """Weight decay in the gradient."""
    return lambda state, x, g, lr, decay: x - lr * update(state, g + decay * x)


def s3(p):
    """Return S3's update for β = 0.95, with look-ahead."""

    def update(state, g):
        m = average(state, "m", 0.95, g)
        s = average(state, "s", 0.95, abs(g) ** p)
        return (0.95 * m + 0.05 * g) / (0.95 * s + 0.05 * abs(g) ** p) ** (1 / p)

    return update


def sign(momentum):
    return lambda state, g: np.sign(average(state, "m", momentum, g))


def adam(beta_1, beta_2, eps=EPS):
    def update(state, g):
        m = average(state, "m", beta_1, g) / (1 - beta_1 ** state["t"])
        v = average(state, "v", beta_2, g * g) / (1 - beta_2 ** state["t"])
        return m / (np.sqrt(v) + eps)

    return update


def nadam(state, g):
    """Use Dozat's schedule of the momentum, ψ = 0.004."""

    def mu(t):
        return 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))

    t = state["t"]
    product = state["product"] = state.get("product", 1) * mu(t)
    m = average(state, "m", 0.9, g)
    v = average(state, "v", 0.999, g * g) / (1 - 0.999**t)
    ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return ahead / (np.sqrt(v) + EPS)


def nesterov(beta):
    """Return AdamW's update with one beta and Nesterov's look-ahead, each part without bias."""

    def update(state, g):
        t = state["t"]
        m = average(state, "m", beta, g)
        v = average(state, "v", beta, g * g) / (1 - beta**t)
        return (beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)) / (np.sqrt(v) + EPS)

    return update


def adam_atan2(state, g):
    m = average(state, "m", 0.9, g) / (1 - 0.9 ** state["t"])
    v = average(state, "v", 0.999, g * g) / (1 - 0.999 ** state["t"])
    return 1.27 * np.arctan2(m, np.sqrt(v))


def cautious(state, g):
    """Divide by the share of the coordinates that stay, as in the authors' code."""
    update = adam(0.9, 0.999)(state, g)
    stays = update * g > 0
    return update * stays / max(np.mean(stays), 1e-3)


def adabelief(state, g):
    t = state["t"]
    m = average(state, "m", 0.9, g)
    state["s"] = 0.999 * state.get("s", 0) + 0.001 * (g - m) ** 2 + 1e-16
    return m / (1 - 0.9**t) / (np.sqrt(state["s"] / (1 - 0.999**t)) + 1e-16)


def laprop(state, x, g, lr, decay):
    """Average lr · ratio, with the bias correction of the authors' code, and decay after the update."""
    v = average(state, "v", 0.999, g * g) / (1 - 0.999 ** state["t"])
    m = average(state, "m", 0.9, lr * g / (np.sqrt(v) + 1e-15))
    return (x - m * lr / average(state, "lr", 0.9, lr)) * (1 - lr * decay)


def adopt(state, x, g, lr, decay):
    """Follow algorithm 2; the first gradient sets v_0."""
    t = state["t"] - 1
    if t == 0:
        state["v"] = g * g
        return x
    ratio = g / np.maximum(np.sqrt(state["v"]), 1e-6)
    m = average(state, "m", 0.9, np.clip(ratio, -(t**0.25), t**0.25))
    average(state, "v", 0.9999, g * g)
    return x * (1 - lr * decay) - lr * m


def stableadamw(state, x, g, lr, decay):
    """Follow algorithm 2: betas without bias, and a learning rate for each tensor."""
    t = state["t"]
    beta_1, beta_2 = (beta * (1 - beta ** (t - 1)) / (1 - beta**t) for beta in (0.9, 0.99))
    m = average(state, "m", beta_1, g)
    v = average(state, "v", beta_2, g * g)
    lr = lr / max(1, math.sqrt(np.mean(g * g / np.maximum(v, 1e-12))))
    return x * (1 - lr * decay) - lr * m / (np.sqrt(v) + 1e-6)


def adagc(state, g):
    """Clip each tensor against its average norm; the warm-up is the first three steps, without a bound on the norm."""
    norm = np.linalg.norm(g)
    if state["t"] < 4:
        state["gamma"] = min(state.get("gamma", math.inf), norm)
    else:
        g = g * min(1.05 * state["gamma"] / norm, 1)
        average(state, "gamma", 0.98, np.linalg.norm(g))
    return adam(0.9, 0.999)(state, g)


def spam(state, x, g, lr, decay):
    """Reset the averages in every fifth step, warm up for two steps then, and clip where t mod 5 is 2 or more.

    As in the authors' code, the bias corrections count all steps. The library's warm-up is one step further than that
    of the paper: it begins with cos(π / 3), not cos(0), where 3 is one step more than the warm-up has.
    """
    t = state["t"]
    if t % 5 == 0:
        state["m"] = state["v"] = np.zeros_like(g)
    if t % 5 >= 2:
        most = np.sqrt(2 * state["v"])
        g = np.clip(g, -most, most)
    since = t - 5
    missing = 0.99 * (1 + math.cos(math.pi * (since + 1) / 3)) / 2 if 0 <= since < 2 else 0
    m = average(state, "m", 0.9, g) / (1 - 0.9**t)
    root = np.sqrt(average(state, "v", 0.999, g * g)) + 1e-6
    return (x - lr * (1 - missing) * math.sqrt(1 - 0.999**t) * m / root) * (1 - lr * decay)


def stable_spam(state, x, g, lr, decay):
    """Reset Adam in every fifth step; the bias corrections of the norms count all steps, as in the paper."""
    t = state["t"]
    largest = abs(g).max()
    most = average(state, "largest", 0.999, largest) / (1 - 0.999**t)
    g = np.where(abs(g) > most, g / largest * most, g)
    norm = np.linalg.norm(g)
    mean = average(state, "norm", 0.7, norm) / (1 - 0.7**t)
    square = average(state, "square", 0.9, norm**2) / (1 - 0.9**t)
    own = state.setdefault("adam", {"t": 0})
    if t % 5 == 0:
        own = state["adam"] = {"t": 0}
    own["t"] += 1
    return decoupled(adam(0.9, 0.999))(own, x, g / norm * mean / (math.sqrt(square) + EPS), lr, decay)


def radam(state, g):
    """Rectify where ρ > 5, as in the authors' code; the paper has 4."""
    t, end = state["t"], 2 / (1 - 0.999) - 1
    m = average(state, "m", 0.9, g) / (1 - 0.9**t)
    v = average(state, "v", 0.999, g * g) / (1 - 0.999**t)
    rho = end - 2 * t * 0.999**t / (1 - 0.999**t)
    if rho <= 5:
        return m
    return math.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho)) * m / (np.sqrt(v) + EPS)


def adamax(state, g):
    m = average(state, "m", 0.9, g) / (1 - 0.9 ** state["t"])
    state["u"] = np.maximum(0.999 * state.get("u", 0), abs(g) + EPS)
    return m / state["u"]


def momentum(state, g):
    state["b"] = 0.9 * state.get("b", 0) + g
    return state["b"]


def lion(state, g):
    update = np.sign(0.9 * state.get("m", 0) + 0.1 * g)
    average(state, "m", 0.99, g)
    return update


def adan(state, g):
    """Use the bias corrections of the authors' code; the first difference is 0."""
    t, difference = state["t"], g - state.get("last", g)
    state["last"] = g
    m = average(state, "m", 0.98, g) / (1 - 0.98**t)
    v = average(state, "v", 0.92, difference) / (1 - 0.92**t)
    n = average(state, "n", 0.99, (g + 0.92 * difference) ** 2) / (1 - 0.99**t)
    return (m + 0.92 * v) / (np.sqrt(n) + EPS)


def ademamix(state, g):
    """Let α and β_3 grow over the horizon; β_3 grows so that the average's half-life grows linearly."""
    t, part = state["t"], state["t"] / HORIZON
    first, last = math.log(0.9), math.log(0.9999)
    beta_3 = min(math.exp(first * last / ((1 - part) * last + part * first)), 0.9999)
    m = average(state, "m", 0.9, g) / (1 - 0.9**t)
    v = average(state, "v", 0.999, g * g) / (1 - 0.999**t)
    return (m + min(5 * part, 5) * average(state, "slow", beta_3, g)) / (np.sqrt(v) + EPS)


def mars(state, g):
    """Take 0 for the gradient before the first, as in the authors' code."""
    c = g + 0.025 * 0.95 / (1 - 0.95) * (g - state.get("last", 0))
    state["last"] = g
    return adam(0.95, 0.99)(state, c / max(1, np.linalg.norm(c)))


def adafactor(state, x, g, lr, decay):
    """Follow algorithm 4 for vectors and 5 for matrices, with the relative step min(lr, 1/√t) and without ε_1."""

    def rms(a):
        return math.sqrt(np.mean(a * a))

    t = state["t"]
    beta = 1 - t**-0.8
    if g.ndim == 2:
        rows = average(state, "rows", beta, (g * g).sum(1))
        columns = average(state, "columns", beta, (g * g).sum(0))
        v = np.outer(rows, columns) / rows.sum()
    else:
        v = average(state, "v", beta, g * g)
    u = g / np.sqrt(v)
    return x * (1 - lr * decay) - max(1e-3, rms(x)) * min(lr, 1 / math.sqrt(t)) * u / max(1, rms(u))


def muon(state, x, g, lr, decay):
    """Apply the Newton-Schulz polynomial to the singular values and scale to AdamW's RMS; vectors get AdamW."""
    if g.ndim != 2:
        return decoupled(adam(0.9, 0.95))(state, x, g, lr, decay)
    state["m"] = 0.95 * state.get("m", 0) + g
    left, values, right = np.linalg.svd(g + 0.95 * state["m"], full_matrices=False)
    values /= np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return x * (1 - lr * decay) - lr * 0.2 * math.sqrt(max(g.shape)) * (left * values) @ right


def soap(state, x, g, lr, decay):
    """Follow algorithm 3, with the bases renewed every second step.

    As in the authors' code, the first step only initialises the bases, and the columns of a basis are sorted by their
    eigenvalues before it is renewed.
    """
    matrix = g.reshape(len(g), -1)
    sides = ("left", matrix @ matrix.T), ("right", matrix.T @ matrix)
    if state["t"] == 1:
        state["Q"] = {"left": np.eye(len(g)), "right": np.eye(1)}
        if g.ndim == 2:
            left, _, right = np.linalg.svd(matrix)
            state["Q"] = {"left": left, "right": right.T}
        for side, product in sides:
            average(state, side, 0.95, product)
        return x
    t, q = state["t"] - 1, state["Q"]
    m = average(state, "m", 0.95, matrix)
    v = average(state, "v", 0.95, (q["left"].T @ matrix @ q["right"]) ** 2)
    n = q["left"] @ (q["left"].T @ m @ q["right"] / (np.sqrt(v) + EPS)) @ q["right"].T
    x = x - lr * math.sqrt(1 - 0.95**t) / (1 - 0.95**t) * n.reshape(g.shape)
    for axis, (side, product) in enumerate(sides):
        p = average(state, side, 0.95, product)
        if t % 2 == 0 and g.ndim == 2:
            order = np.argsort(-np.diag(q[side].T @ p @ q[side]))
            q[side] = np.linalg.qr(p @ q[side][:, order])[0]
            state["v"] = np.take(state["v"], order, axis)
    return x * (1 - lr * decay)


def schedulefree(state, x, g, lr, decay):
    """Take x for the paper's y, where gradients are computed.

    Steps are weighted by the square of the largest lr so far, as in the library.
    """
    z, mean = state.get("z", x), state.get("mean", x)
    v = average(state, "v", 0.999, g * g) / (1 - 0.999 ** state["t"])
    z = state["z"] = z - lr * (g / (np.sqrt(v) + EPS) + decay * x)
    state["top"] = max(state.get("top", 0), lr)
    state["sum"] = state.get("sum", 0) + state["top"] ** 2
    c = state["top"] ** 2 / state["sum"]
    mean = state["mean"] = (1 - c) * mean + c * z
    return 0.1 * z + 0.9 * mean


# name of the YAML: (step, kind of weight decay)
STEPS = {
    "s3": (decoupled(s3(3)), "decoupled"),
    "s3_p1": (decoupled(s3(1)), "decoupled"),
    "s3_p2": (decoupled(s3(2)), "decoupled"),
    "s3_p4": (decoupled(s3(4)), "decoupled"),
    "adam": (l2(adam(0.9, 0.999)), "L2"),
    "adamw": (decoupled(adam(0.9, 0.999)), "decoupled"),
    "adamw_95": (decoupled(adam(0.9, 0.95)), "decoupled"),
    "adamw_same": (decoupled(adam(0.95, 0.95)), "decoupled"),
    "adamw_eps5": (decoupled(adam(0.9, 0.999, 1e-5)), "decoupled"),
    "adamw_eps15": (decoupled(adam(0.9, 0.999, 1e-15)), "decoupled"),
    "nadamw_same": (decoupled(nesterov(0.95)), "decoupled"),
    "adan_no_lookahead": (decoupled(adam(0.98, 0.99)), "decoupled"),
    "adam_atan2": (decoupled(adam_atan2), "decoupled"),
    "cautious_adamw": (decoupled(cautious), "decoupled"),
    "adabelief": (decoupled(adabelief), "decoupled"),
    "laprop": (laprop, "decoupled"),
    "adopt": (adopt, "decoupled"),
    "stableadamw": (stableadamw, "decoupled"),
    "adagc": (decoupled(adagc), "decoupled"),
    "spam": (spam, "decoupled"),
    "stable_spam": (stable_spam, "decoupled"),
    "signsgd": (decoupled(sign(0)), "decoupled"),
    "signum": (decoupled(sign(0.95)), "decoupled"),
    "sgd": (l2(momentum), "L2"),
    "nadam": (decoupled(nadam), "decoupled"),
    "radam": (decoupled(radam), "decoupled"),
    "adamax": (l2(adamax), "L2"),
    "adafactor": (adafactor, "decoupled"),
    "muon": (muon, "decoupled"),
    "lion": (decoupled(lion), "decoupled"),
    "adan": (decoupled(adan), "decoupled"),
    "ademamix": (decoupled(ademamix), "decoupled"),
    "soap": (soap, "decoupled"),
    "mars": (decoupled(mars), "decoupled"),
    "schedulefree_adamw": (schedulefree, "decoupled"),
}
