"""Which reviews train, validate and test."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import WRITERS, make_reviews, write_acl_imdb, write_csv
from prepared import data_of, texts_of

from lit_imdb.data.splits import DROPPED, TEST, TRAIN, VAL, assign_splits


@pytest.mark.parametrize("form", WRITERS)
def test_held_out_splits_are_the_tails_of_each_label_in_every_form(form: str) -> None:
    reviews = make_reviews(100)
    splits = texts_of(WRITERS[form](Path(form), reviews))
    negative, positive = reviews[:100], reviews[100:]
    assert splits["train"] == negative[:72] + positive[:72]  # of aclImdb, 2_1.txt before 10_1.txt
    assert splits["val"] == negative[72:80] + positive[72:80]
    assert splits["test"] == negative[80:] + positive[80:]


def test_a_source_with_its_own_test_split_keeps_it() -> None:
    train, test = make_reviews(20), make_reviews(10, seed=1)
    write_acl_imdb(Path("imdb"), train)
    splits = texts_of(write_acl_imdb(Path("imdb"), test, "test"))
    assert splits["test"] == test
    assert len(splits["val"]) == 4  # a tenth of each label of the training split

    Path("tables").mkdir()
    write_csv(Path("tables/train.csv"), train)
    write_csv(Path("tables/test.csv"), test)
    assert texts_of(Path("tables")) == splits


def test_a_text_in_two_splits_stays_in_test_before_validation_before_training() -> None:
    labels = np.repeat([0, 1], 20).astype(np.int8)
    texts = np.arange(40)
    texts[0] = texts[16]  # the tail of 4 is test
    texts[1] = texts[15]  # of the 16 left, the tail of 2 validates
    texts[14] = texts[17]
    texts[2] = texts[39]  # with the other label, too
    texts[4] = texts[3]  # twice in training: no leak
    splits = assign_splits(labels, texts, np.zeros(40, bool), 0.1)
    assert splits[[0, 1, 2, 14]].tolist() == [DROPPED] * 4
    assert splits[[3, 4, 15, 16, 17]].tolist() == [TRAIN, TRAIN, VAL, TEST, TEST]
    assert Counter(splits[20:].tolist()) == {TRAIN: 14, VAL: 2, TEST: 4}


def test_empty_texts_are_skipped_and_counted() -> None:
    texts, labels = map(list, zip(*make_reviews(50), strict=True))
    table = pa.table({"text": [None, "", " \n", *texts], "label": [0, None, 1, *labels]})
    pq.write_table(table, Path("some.parquet"))
    module = data_of(Path("some.parquet"))
    assert module.counts == {"skipped": 3, "dropped": 0}
    assert sum(map(len, module.splits.values())) == 100
