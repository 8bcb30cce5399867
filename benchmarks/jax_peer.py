"""The training step in JAX: `lax.scan` over the tokens, compiled.

    python -m benchmarks.jax_peer IDS.npz

Shapes: B reviews, T tokens, E embedding, H hidden units, N reviews.
"""

import sys
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.example_libraries.optimizers import adam

from benchmarks.timing import print_step

B, V, E, H, KEEP = 128, 10_000, 100, 64, 0.8
SHAPES = {
    **{"embedding": (V, E), "in0": (E, H), "in1": (H, H), "hidden0": (H, H), "hidden1": (H, H)},
    **{"bias0": (H,), "bias1": (H,), "out": (H, 1), "out_bias": (1,)},
}
first_state, update, weights_of = adam(1e-3, eps=1e-7)


def loss_of(w: dict[str, Any], ids: Any, labels: Any, key: Any) -> Any:
    key0, key1 = jax.random.split(key)
    zeros = jnp.zeros((B, H))
    mask0 = jax.random.bernoulli(key0, KEEP, (B, E)) / KEEP
    mask1 = jax.random.bernoulli(key1, KEEP, (B, H)) / KEEP
    projected = (w["embedding"][ids.T] * mask0) @ w["in0"] + w["bias0"]  # (T, B, H)

    def token(states: Any, now: Any) -> Any:
        h0, h1 = states  # (B, H) each
        h0 = jnp.tanh(now + h0 @ w["hidden0"])
        h1 = jnp.tanh((h0 * mask1) @ w["in1"] + w["bias1"] + h1 @ w["hidden1"])
        return (h0, h1), None

    (_, h1), _ = jax.lax.scan(token, (zeros, zeros), projected)
    logits = (h1 @ w["out"] + w["out_bias"])[:, 0]  # (B,)
    return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)


@partial(jax.jit, donate_argnums=1)
def train_step(number: Any, state: Any, ids: Any, labels: Any) -> Any:
    key = jax.random.fold_in(jax.random.key(1), number)
    loss, gradients = jax.value_and_grad(loss_of)(weights_of(state), ids, labels, key)
    return update(number, gradients, state), loss


def main(path: str) -> None:
    reviews = np.load(path)
    ids, labels = reviews["train_ids"], reviews["train_labels"]  # (N, T), (N,)
    rng, numbers = np.random.default_rng(1), count()
    state = first_state(
        {name: jnp.asarray(rng.uniform(-0.05, 0.05, s), "float32") for name, s in SHAPES.items()}
    )

    def take(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            rows = rng.integers(len(ids), size=B)
            state, loss = train_step(next(numbers), state, ids[rows], labels[rows])
        loss.block_until_ready()

    print_step(take)


if __name__ == "__main__":
    main(sys.argv[1])
