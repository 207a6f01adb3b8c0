"""Optimizers as their papers write them, in numpy, slowly; one flat vector of weights.

`gradient(w, t)` is the gradient at step t (from 0). Every function returns the weights after each
step; those with an average return (weights, average) pairs.
"""

import numpy as np


def nadamw(w, gradient, steps, *, lr, b1, b2, eps, decay):
    """arXiv:1910.05446, table 1, with decoupled weight decay."""
    m, v, out = np.zeros_like(w), np.zeros_like(w), []
    for t in range(steps):
        g = gradient(w, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = (b1 * m + (1 - b1) * g) / (1 - b1 ** (t + 1))
        w = w - lr * decay * w - lr * ahead / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)
        out.append(w)
    return out


def schedule_free_adamw(w, gradient, steps, *, lr, beta, b2, eps, decay, power):
    """arXiv:2405.15682, algorithm 1; `lr` is a list. Pairs (y, x)."""
    z, x, v, total, out = w.copy(), w.copy(), np.zeros_like(w), 0.0, []
    for t in range(steps):
        y = (1 - beta) * z + beta * x
        g = gradient(y, t)
        v = b2 * v + (1 - b2) * g**2
        z = z - lr[t] * (g / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps) + decay * y)
        weight = (t + 1) ** power * max(lr[: t + 1]) ** 2
        total += weight
        x = (1 - weight / total) * x + weight / total * z
        out.append(((1 - beta) * z + beta * x, x))
    return out


def schedule_free_sgd(w, gradient, steps, *, lr, beta, decay):
    """arXiv:2405.15682, eqs. (3) to (5), one rate. Pairs (y, x)."""
    z, x, out = w.copy(), w.copy(), []
    for t in range(steps):
        y = (1 - beta) * z + beta * x
        z = z - lr * (gradient(y, t) + decay * y)
        x = x * t / (t + 1) + z / (t + 1)
        out.append(((1 - beta) * z + beta * x, x))
    return out


def prodigy(w, gradient, steps, *, b1, b2, eps, decay, d0, lr=1.0, corrected=False, safe=False):
    """arXiv:2306.06101, algorithm 4."""
    start, d, r, out = w.copy(), d0, 0.0, []
    s, m, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t in range(steps):
        g = gradient(w, t)
        rate = d * lr
        if corrected:
            rate *= np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1))
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        r = np.sqrt(b2) * r + d / d0 * rate * np.dot(g, start - w)
        s = np.sqrt(b2) * s + d / d0 * (d if safe else rate) * g
        d = max(d, r / np.abs(s).sum())
        w = w - rate * decay * w - rate * m / (np.sqrt(v) + d * eps)
        out.append(w)
    return out


def dog(w, gradient, steps, *, first, eps, decay, gamma, parts):
    """arXiv:2302.12022 with the average of arXiv:1212.1824; `parts` are slices with a rate each."""
    start, mean, out = w.copy(), w.copy(), []
    far = [first * (1 + np.linalg.norm(w[part])) for part in parts]
    energy = [0.0 for _ in parts]
    for t in range(1, steps + 1):
        g, new = gradient(w, t - 1) + decay * w, w.copy()
        for i, part in enumerate(parts):
            far[i] = max(far[i], np.linalg.norm(w[part] - start[part]))
            energy[i] += np.sum(g[part] ** 2)
            new[part] = w[part] - far[i] / np.sqrt(energy[i] + eps) * g[part]
        w = new
        share = (1 + gamma) / (t + gamma)
        mean = (1 - share) * mean + share * w
        out.append((w, mean))
    return out


def mechanic_sgd(w, gradient, steps, *, lr, decay, first, betas, eps):
    """arXiv:2306.00144, algorithm 1, over gradient descent."""
    start, total, betas = w.copy(), np.zeros_like(w), np.array(betas)
    s, r, v = (np.zeros(len(betas)) for _ in range(3))
    m, out = np.full(len(betas), 1e-6), []
    for t in range(steps):
        g = gradient(w, t)
        pull = decay * s.sum() * np.linalg.norm(g) / (np.linalg.norm(w) + eps)
        h = np.dot(g + pull * w, total)
        total = total - lr * g
        m = np.maximum(betas * m, abs(h))
        v = betas**2 * v + h**2
        r = np.maximum(0.0, betas * r - s * h)
        s = (m * first / len(betas) + r) / (np.sqrt(v) + eps)
        w = start + s.sum() * total
        out.append(w)
    return out
