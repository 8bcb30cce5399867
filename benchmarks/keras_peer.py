"""The tutorial's program in TensorFlow: its training step, or the whole process.

    python -m benchmarks.keras_peer IDS.npz [--whole]

Written anew as the tutorial describes it: two `SimpleRNNCell`s with dropout in a `keras.Model`,
unrolled with `tf.unstack`, Adam 1e-3 and binary cross-entropy.
"""

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from tensorflow import keras

from benchmarks.timing import print_step

BATCH, UNITS = 128, 64


class Rnn(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.start = [tf.zeros([BATCH, UNITS])]
        self.embedding = keras.layers.Embedding(10_000, 100)
        self.cell0 = keras.layers.SimpleRNNCell(UNITS, dropout=0.2)
        self.cell1 = keras.layers.SimpleRNNCell(UNITS, dropout=0.2)
        self.out = keras.layers.Dense(1)

    def call(self, inputs: Any, training: Any = None) -> Any:
        state0 = state1 = self.start
        for word in tf.unstack(self.embedding(inputs), axis=1):
            out0, state0 = self.cell0(word, state0, training=training)
            out1, state1 = self.cell1(out0, state1, training=training)
        return tf.sigmoid(self.out(out1))


def main(path: str, whole: bool) -> None:
    reviews, model = np.load(path), Rnn()
    train, test = (
        tf.data.Dataset.from_tensor_slices((reviews[f"{split}_ids"], reviews[f"{split}_labels"]))
        .shuffle(1000)
        .batch(BATCH, drop_remainder=True)
        for split in ("train", "test")
    )
    model.compile(keras.optimizers.Adam(0.001), keras.losses.BinaryCrossentropy(), ["accuracy"])
    if whole:
        model.fit(train, epochs=4, validation_data=test)
        model.evaluate(test)
        return
    # the compiled step in a plain loop: `model.fit` around it would only add to it
    batches, step = iter(train.repeat().prefetch(4)), model.make_train_function()

    def take(steps: int) -> None:
        for _ in range(steps):
            logs = step(batches)
        logs["loss"].numpy()

    print_step(take)


if __name__ == "__main__":
    main(sys.argv[1], "--whole" in sys.argv)
