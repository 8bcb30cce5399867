"""The tutorial's program in TensorFlow: its training step in turns, or the whole process.

    python -m benchmarks.keras_peer REVIEWS.npz [--whole]

The network is written anew as the tutorial describes it: two `SimpleRNNCell`s with dropout in a
`keras.Model`, unrolled with `tf.unstack`, Adam 1e-3 and binary cross-entropy.
"""

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from tensorflow import keras

from benchmarks.turns import Steps, serve

BATCH, WORDS, LENGTH, EMBEDDING, UNITS = 128, 10_000, 80, 100, 64


class Rnn(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.start = [tf.zeros([BATCH, UNITS])]
        self.embedding = keras.layers.Embedding(WORDS, EMBEDDING)
        self.cell0 = keras.layers.SimpleRNNCell(UNITS, dropout=0.2)
        self.cell1 = keras.layers.SimpleRNNCell(UNITS, dropout=0.2)
        self.out = keras.layers.Dense(1)

    def call(self, inputs: Any, training: Any = None) -> Any:
        state0 = state1 = self.start
        for word in tf.unstack(self.embedding(inputs), axis=1):
            out0, state0 = self.cell0(word, state0, training=training)
            out1, state1 = self.cell1(out0, state1, training=training)
        return tf.sigmoid(self.out(out1))


def dataset(reviews: Any, part: str) -> Any:
    arrays = reviews[f"{part}_ids"][:, -LENGTH:].astype(np.int32), reviews[f"{part}_labels"]
    return tf.data.Dataset.from_tensor_slices(arrays).shuffle(1000).batch(BATCH, True)


def compiled() -> Any:
    model = Rnn()
    loss = keras.losses.BinaryCrossentropy()
    model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
    return model


def make_step(path: str) -> Steps:
    """Keras's own compiled step in a plain loop: `model.fit` around it would only add to it."""
    model = compiled()
    batches = iter(dataset(np.load(path), "train").repeat().prefetch(4))
    step = model.make_train_function()

    def run(steps: int) -> None:
        for _ in range(steps):
            logs = step(batches)
        logs["loss"].numpy()

    return run


def whole(path: str) -> None:
    """The tutorial's main function, with reviews that are already encoded."""
    reviews = np.load(path)
    train, test = dataset(reviews, "train"), dataset(reviews, "test")
    model = compiled()
    model.fit(train, epochs=4, validation_data=test)
    model.evaluate(test)


if __name__ == "__main__":
    if "--whole" in sys.argv:
        whole(sys.argv[1])
    else:
        serve(lambda: make_step(sys.argv[1]))
