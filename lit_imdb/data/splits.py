"""Which review trains, which validates, which tests.

Reviews of one film stand together in IMDB's order. A random sample would therefore leave 90-99%
of the held-out reviews with a sibling in training; the tail of each label leaves 0.3-0.7%.
"""

import numpy as np

from lit_imdb.errors import UserError

TRAIN, VAL, TEST, DROPPED, EMPTY = 0, 1, 2, -1, -2
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
TEST_FRACTION = 0.2


def assign_splits(
    labels: np.ndarray, texts: np.ndarray, is_test: np.ndarray, val_fraction: float
) -> np.ndarray:
    """Return the split of each of N reviews: TRAIN, VAL, TEST or DROPPED.

    If no review is marked as test, the last 20% of each label are. Of the others the last
    `val_fraction` of each label validate. A text that occurs in two splits is kept in test, else in
    validation, and DROPPED elsewhere: no held-out metric changes with training.

    Args:
        labels: 0 or 1 (N,).
        texts: One number per text, equal for equal texts (N,).
        is_test: Whether the source itself puts the review into a test split (N,).
        val_fraction: The share of the training reviews that validates.

    Raises:
        UserError: Only one label, or too few reviews for three splits.
    """
    splits = np.where(is_test, TEST, TRAIN).astype(np.int8)
    if not is_test.any():
        _mark_tails(splits, labels, TEST_FRACTION, TEST)
    _mark_tails(splits, labels, val_fraction, VAL)
    in_test = np.isin(texts, texts[splits == TEST])
    in_val = np.isin(texts, texts[splits == VAL])
    splits[(splits != TEST) & in_test] = DROPPED
    splits[(splits == TRAIN) & in_val] = DROPPED
    for name, number in SPLITS.items():
        if not (splits == number).any():
            raise UserError(f"no review is left for the {name} split; are all texts equal?")
    return splits


def _mark_tails(splits: np.ndarray, labels: np.ndarray, fraction: float, number: int) -> None:
    for label, name in enumerate(("neg", "pos")):
        rows = np.flatnonzero((splits == TRAIN) & (labels == label))
        count = round(len(rows) * fraction)
        if count == 0:
            raise UserError(f"too few reviews labelled {name}, {len(rows)}: both labels are needed")
        splits[rows[-count:]] = number
