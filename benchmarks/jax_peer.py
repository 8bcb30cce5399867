"""The training step in JAX: `lax.scan` over the tokens, compiled; Adam by hand.

    python -m benchmarks.jax_peer IDS.npz

Shapes: B reviews, T tokens, E embedding, H hidden units, N reviews.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import print_step

BATCH, WORDS, E, H = 128, 10_000, 100, 64
KEEP, LR, EPS = 0.8, 1e-3, 1e-7
SHAPES = {
    **{"embedding": (WORDS, E), "in0": (E, H), "in1": (H, H), "hidden0": (H, H)},
    **{"hidden1": (H, H), "bias0": (H,), "bias1": (H,), "out": (H, 1), "out_bias": (1,)},
}


def loss_of(w: dict[str, Any], ids: Any, labels: Any, key: Any) -> Any:
    key0, key1 = jax.random.split(key)
    mask0 = jax.random.bernoulli(key0, KEEP, (BATCH, E)) / KEEP
    mask1 = jax.random.bernoulli(key1, KEEP, (BATCH, H)) / KEEP
    projected = (w["embedding"][ids.T] * mask0) @ w["in0"] + w["bias0"]  # (T, B, H)

    def token(states: Any, now: Any) -> Any:
        h0, h1 = states  # (B, H) each
        h0 = jnp.tanh(now + h0 @ w["hidden0"])
        h1 = jnp.tanh((h0 * mask1) @ w["in1"] + w["bias1"] + h1 @ w["hidden1"])
        return (h0, h1), None

    zeros = jnp.zeros((BATCH, H))
    (_, h1), _ = jax.lax.scan(token, (zeros, zeros), projected)
    logits = (h1 @ w["out"] + w["out_bias"])[:, 0]  # (B,)
    return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)


def train_step(state: Any, ids: Any, labels: Any) -> Any:
    weights, means, squares, count, key = state
    key, now = jax.random.split(key)
    loss, gradients = jax.value_and_grad(loss_of)(weights, ids, labels, now)
    count += 1
    rate = LR * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
    squares = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, squares, gradients)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPS), weights, means, squares
    )
    return (weights, means, squares, count, key), loss


def main(path: str) -> None:
    reviews = np.load(path)
    ids, labels = reviews["train_ids"], reviews["train_labels"]  # (N, T), (N,)
    rng = np.random.default_rng(1)
    keys = jax.random.split(jax.random.key(1), len(SHAPES))
    weights = {
        name: jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    zeros = [jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
    state = (weights, *zeros, jnp.zeros(()), jax.random.key(2))
    step = jax.jit(train_step, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            rows = rng.integers(len(ids), size=BATCH)
            state, loss = step(state, ids[rows], labels[rows])
        loss.block_until_ready()

    print_step(run)


if __name__ == "__main__":
    main(sys.argv[1])
