"""Update rules written from their equations in NumPy, f64, apart from the Rust code: inputs and results as JSON.

    python stages/training/tests/reference/make.py

Needs NumPy alone. Gradients are central differences of the losses here. `tests/reference.rs` holds the Rust code against them.
"""

import json
import pathlib

import numpy as np

rng = np.random.default_rng(20261123)
SHAPE = (3, 2, 2, 2)  # batch, channels, height, width


def normal(*shape):
    return rng.standard_normal(shape)


def per_sample(x):
    return x.reshape(len(x), -1).mean(axis=1)


def gradient(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


def col(t):
    return t.reshape(-1, 1, 1, 1)


# A. Flow-GRPO and GRPO-Guard (facts: sections 2.1 and 2.4).
def log_density(x, mu, std):
    return per_sample(-((x - mu) ** 2) / (2 * std**2) - np.log(std) - 0.5 * np.log(2 * np.pi))


def clipped(log_ratio, advantage, clip):
    r = np.exp(log_ratio)
    return np.maximum(-advantage * r, -advantage * np.clip(r, 1 - clip, 1 + clip))


old, mean, noise = normal(*SHAPE), None, normal(*SHAPE)
mean = old + 0.05 * normal(*SHAPE)
std, clip, advantage = 0.37, 0.02, np.array([1.3, -0.7, 0.4])
taken = old + std * noise


def plain(mu):
    return log_density(taken, mu, std) - log_density(taken, old, std)


def guard(mu):
    bias = per_sample((mu - old) ** 2) / (2 * std**2)
    return std * (plain(mu) + bias)


grpo = {
    "mean": mean, "old": old, "noise": noise, "std": std, "clip": clip, "advantage": advantage,
    "plain_log_ratio": plain(mean), "guard_log_ratio": guard(mean),
    "plain_loss": clipped(plain(mean), advantage, clip), "guard_loss": clipped(guard(mean), advantage, clip),
    "plain_gradient": gradient(lambda m: clipped(plain(m), advantage, clip).sum(), mean),
    "guard_gradient": gradient(lambda m: clipped(guard(m), advantage, clip).sum(), mean),
}


# B. DiffusionNFT (section 3). The weights are held fixed, so the differences must not move them.
x0, v, v_old, eps = normal(*SHAPE), normal(*SHAPE), normal(*SHAPE), normal(*SHAPE)
t, rho, beta = np.array([0.2, 0.6, 0.9]), np.array([0.1, 0.5, 0.95]), 0.7
xt = (1 - col(t)) * x0 + col(t) * eps


def branch_weights(v):
    plus, minus = (1 - beta) * v_old + beta * v, (1 + beta) * v_old - beta * v
    return [np.maximum(per_sample(np.abs(xt - col(t) * b - x0)), 1e-5) for b in (plus, minus)]


def nft_loss(v, weights):
    plus, minus = (1 - beta) * v_old + beta * v, (1 + beta) * v_old - beta * v
    lp, lm = (per_sample((xt - col(t) * b - x0) ** 2) / w for b, w in zip((plus, minus), weights))
    return (rho * lp + (1 - rho) * lm) / beta


held = branch_weights(v)
nft = {
    "x0": x0, "xt": xt, "t": t, "v": v, "old": v_old, "rho": rho, "beta": beta, "loss": nft_loss(v, held),
    "gradient": gradient(lambda v: nft_loss(v, held).sum(), v),
}


# C. Distillation (section 4.1): closed form of SDE and ODE, and the PPO-style loss with the advantage differentiable or held.
def kl(mu, to, s):
    return per_sample((mu - to) ** 2) / (2 * s**2 if s > 0 else 2.0)


goal = mean + 0.2 * normal(*SHAPE)
wide = 0.5


def ppo(mu, held_advantage=None):
    a = -kl(mu, goal, std) if held_advantage is None else held_advantage
    return clipped(plain(mu), a, wide)


opd = {
    "mean": mean, "goal": goal, "old": old, "noise": noise, "std": std, "clip": wide,
    "sde": kl(mean, goal, std), "ode": kl(mean, goal, 0.0),
    "sde_gradient": gradient(lambda m: kl(m, goal, std).sum(), mean),
    "ppo": ppo(mean), "ppo_gradient": gradient(lambda m: ppo(m).sum(), mean),
    "ppo_detached_gradient": gradient(lambda m: ppo(m, -kl(mean, goal, std)).sum(), mean),
}


# D. Advantages (section 2.1): groups of three, population deviations.
rewards = np.array([0.1, 0.9, 0.5, 0.2, 0.2, 0.8])
groups = rewards.reshape(2, 3)
centred = groups - groups.mean(axis=1, keepdims=True)
advantages = {
    "rewards": rewards, "group": 3,
    "of_round": (centred / (rewards.std() + 1e-4)).ravel(),
    "of_group": (centred / (groups.std(axis=1, keepdims=True) + 1e-4)).ravel(),
}


# E. Distribution matching: a state noised further, and the velocity whose score that is.
s, to = np.array([0.0, 0.3, 0.5]), np.array([0.4, 0.7, 0.95])
a = (1 - to) / (1 - s)
b = np.sqrt(to**2 - (a * s) ** 2)
state = col(a) * x0 + col(b) * eps
score = -(state - col(a) * x0) / col(b) ** 2
clean = (state + col(to) ** 2 * score) / (1 - col(to))
dmd = {"x": x0, "noise": eps, "from": s, "to": to, "state": state, "velocity": (state - clean) / col(to)}


def plain_json(x):
    if isinstance(x, np.ndarray):
        return {"shape": list(x.shape), "values": [float(f"{y:.12g}") for y in x.ravel()]}
    return x


everything = {"grpo": grpo, "nft": nft, "opd": opd, "advantages": advantages, "dmd": dmd}
text = json.dumps({k: {n: plain_json(x) for n, x in d.items()} for k, d in everything.items()}, indent=0)
(pathlib.Path(__file__).parent / "updates.json").write_text(text + "\n")
