"""The training step in JAX: `lax.scan` over the tokens, compiled.

    python -m benchmarks.jax_peer IDS.npz

Shapes: B reviews, T tokens, E embedding, H hidden units, N reviews.
"""

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.example_libraries.optimizers import adam

from benchmarks.timing import print_step

BATCH, WORDS, E, KEEP = 128, 10_000, 100, 0.8
first_state, update, weights_of = adam(1e-3, eps=1e-7)


def loss_of(w: dict[str, Any], ids: Any, labels: Any, key: Any) -> Any:
    key0, key1 = jax.random.split(key)
    zeros = jnp.zeros((len(ids), len(w["hidden0"])))  # (B, H)
    mask0 = jax.random.bernoulli(key0, KEEP, (len(ids), E)) / KEEP
    mask1 = jax.random.bernoulli(key1, KEEP, zeros.shape) / KEEP
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


def training(units: int, batch: Callable[[], tuple[Any, Any]]) -> Callable[[int], None]:
    """Return what takes so many steps of a new network on ids (B, T) and labels (B,)."""
    shapes = {"embedding": (WORDS, E), "in0": (E, units), "in1": (units, units)}
    shapes |= {"hidden0": (units, units), "hidden1": (units, units), "out": (units, 1)}
    shapes |= {"bias0": (units,), "bias1": (units,), "out_bias": (1,)}
    rng = np.random.default_rng(1)
    state = first_state(
        {name: jnp.asarray(rng.uniform(-0.05, 0.05, s), "float32") for name, s in shapes.items()}
    )
    numbers = count()

    def take(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, loss = train_step(next(numbers), state, *batch())
        loss.block_until_ready()

    return take


def main(path: str) -> None:
    reviews = np.load(path)
    ids, labels = reviews["train_ids"], reviews["train_labels"]  # (N, T), (N,)
    rng = np.random.default_rng(1)

    def batch() -> tuple[Any, Any]:
        rows = rng.integers(len(ids), size=BATCH)
        return ids[rows], labels[rows]

    print_step(training(64, batch))


if __name__ == "__main__":
    main(sys.argv[1])
