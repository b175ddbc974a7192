#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the whole numbers of key sketches (docs/search.md) lose against the same sketch in floats, on synthetic texts.

For each kind of keys and head_dim: the share of softmax mass in the best 128 and 512 tokens of 8192, in blocks of 16
chosen by the exact log-sum-exp, by sketches in floats with levels of .55 and 1.9 mean distances, by sketches in floats
with four equally spaced levels, and by the whole numbers; then the deviation of block scores from the exact ones, in
natural logarithms. Needs numpy. Usage: sketch_check.py [SEED]
"""
import sys

import numpy as np

F = np.float32
GROUP, TOKENS, BLOCK = 4, 8192, 16


def hadamard(x):
    x, begin, left = x.astype(F).copy(), 0, x.shape[-1]
    while left:
        size, half = 1 << (left.bit_length() - 1), 1
        y = x[..., begin:begin + size]
        while half < size:
            y = y.reshape(*x.shape[:-1], size // (2 * half), 2, half)
            y = np.stack([y[..., 0, :] + y[..., 1, :], y[..., 0, :] - y[..., 1, :]], -2).reshape(*x.shape[:-1], size)
            half *= 2
        x[..., begin:begin + size] = y * F(1 / np.sqrt(size))
        begin, left = begin + size, left - size
    return x


def log_sum_exp(x):
    top = x.max(-1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(-1, keepdims=True)))[..., 0]


def float_scores(q, blocks, scale, inner, outer, threshold):
    mean = blocks.mean(1, keepdims=True)
    rest = hadamard(blocks - mean)
    sigma = np.abs(rest).mean(1, keepdims=True) + 1e-20
    levels = np.sign(rest) * sigma * np.where(np.abs(rest) < threshold * sigma, inner, outer)
    dots = np.einsum("gd,bd->gb", q, mean[:, 0])[..., None] + np.einsum("gd,btd->gbt", hadamard(q), levels)
    return log_sum_exp(dots * scale).max(0)


def power_of_two(largest):
    mantissa, exponent = np.frexp(largest)
    return np.ldexp(F(1), np.where(2 * mantissa <= 1.984375, exponent - 7, exponent - 6)).astype(F)


def sketch(blocks):
    keys = hadamard(blocks)
    mean = keys.mean(1)
    step = F(1.25) * np.abs(keys - mean[:, None]).mean(1)
    step_scale = power_of_two(step.max(1, keepdims=True))
    steps = np.rint(step / step_scale)
    base = mean - F(1.5) * steps * step_scale
    base_scale = power_of_two(np.abs(base).max(1, keepdims=True))
    bases = np.clip(np.rint(base / base_scale), -127, 127)
    step = steps * step_scale
    inverse = np.where(step > 0, 1 / np.where(step > 0, step, 1), 0)
    codes = np.clip(np.floor((keys - (bases * base_scale)[:, None]) * inverse[:, None] + F(0.5)), 0, 3)
    return steps.astype(int), step_scale[:, 0], bases.astype(int), base_scale[:, 0], codes.astype(int)


def exp2(y):
    whole = np.floor(np.maximum(y, -126))
    part = np.maximum(y, -126) - whole
    return (part * (part * F(87 / 256) + F(169 / 256)) + 1) * np.exp2(whole)


def log2(x):
    exponent = np.floor(np.log2(x))
    part = x / np.exp2(exponent) - 1
    return exponent + part * (part * F(-87 / 256) + F(343 / 256))


def whole_scores(q, sketches, scale):
    steps, step_scale, bases, base_scale, codes = sketches
    best = []
    for row in hadamard(q):
        q_scale = np.abs(row).max() / F(32767)
        whole = np.rint(row / q_scale).astype(int)
        unit = q_scale * (F(scale) * F(1.44269504))
        sums = np.einsum("bd,btd->bt", (whole * steps + (1 << 14)) >> 15, codes)
        top = sums.max(1)
        step_unit = unit * F(32768) * step_scale
        powers = exp2(step_unit[:, None] * (sums - top[:, None]).astype(F)).sum(1)
        best.append(unit * base_scale * (whole * bases).sum(1).astype(F) + step_unit * top.astype(F) + log2(powers))
    return np.max(best, 0) * np.log(2)


def make_keys(kind, rng, head_dim):
    noise = rng.normal(size=(TOKENS, head_dim)).astype(F)
    if kind == "independent":
        return noise
    drift, keys = noise[0], np.empty_like(noise)  # first-order autoregressive, correlation length 16
    rho = np.exp(-1 / 16)
    for t in range(TOKENS):
        drift = rho * drift + np.sqrt(1 - rho * rho) * noise[t]
        keys[t] = drift
    if kind == "drifting":
        return keys
    spread = np.exp(0.8 * rng.normal(size=head_dim))  # channels of unlike size, some far from 0
    offset = 2 * spread * rng.normal(size=head_dim)
    offset[rng.integers(head_dim, size=2)] *= 10
    return ((0.6 * keys + 0.8 * rng.normal(size=noise.shape)) * spread + offset).astype(F)


def main():
    rng = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    forms = ("exact", ".55/1.9", "even", "whole")
    print("keys          d   tokens", *(f"{form:>8}" for form in forms))
    for kind in ("independent", "drifting", "channels"):
        for head_dim in (64, 128):
            mass = {(budget, form): [] for budget in (128, 512) for form in forms}
            error = {form: [] for form in forms}
            for _ in range(6):
                keys = make_keys(kind, rng, head_dim)
                blocks = keys.reshape(-1, BLOCK, head_dim)
                sketches, deviation = sketch(blocks), keys.std(0)
                for _ in range(4):
                    wanted = (keys[rng.integers(TOKENS)] - keys.mean(0)) / deviation
                    q = ((0.6 * wanted + rng.normal(size=(GROUP, head_dim))) / deviation).astype(F)
                    scale = 2 / np.sqrt(head_dim)
                    logits = np.einsum("gd,td->gt", q.astype(float), keys.astype(float)) * scale
                    share = np.exp(logits - log_sum_exp(logits)[:, None]).reshape(GROUP, -1, BLOCK).sum(-1)
                    exact = log_sum_exp(logits.reshape(GROUP, -1, BLOCK)).max(0)
                    scores = {"exact": exact,
                              ".55/1.9": float_scores(q, blocks, scale, 0.55, 1.9, 1.2),
                              "even": float_scores(q, blocks, scale, 0.625, 1.875, 1.25),
                              "whole": whole_scores(q, sketches, scale)}
                    for form, score in scores.items():
                        order = np.argsort(-score, kind="stable")
                        error[form].append((score - exact).std())
                        for budget in (128, 512):
                            mass[budget, form].append(share[:, order[:budget // BLOCK]].sum(1).mean())
            for budget in (128, 512):
                row = (f"{np.mean(mass[budget, form]):8.3f}" for form in forms)
                print(f"{kind:12} {head_dim:3} {budget:8}", *row)
            print(f"{kind:12} {head_dim:3}    error", *(f"{np.mean(error[form]):8.3f}" for form in forms))


if __name__ == "__main__":
    main()
