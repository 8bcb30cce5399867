"""scikit-learn's TF-IDF of words and pairs with logistic regression, on the splits of `train.py`.

python -m benchmarks.tfidf [SOURCE]
"""

import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.splits import SPLITS

if __name__ == "__main__":
    source = open_source((sys.argv[1:] or ["package"])[0])
    batches = Preparation(source, Path(), "words", 10_000, 80, val_fraction=0.1).batches()
    rows = [row for batch in batches for row in zip(*batch, strict=True)]
    part = {k: zip(*(r[:2] for r in rows if r[2] == n), strict=True) for k, n in SPLITS.items()}
    tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)  # chosen on val, as C is
    model = make_pipeline(tfidf, LogisticRegression(C=10, max_iter=1000)).fit(*part["train"])
    print(f"val {model.score(*part['val']):.2%}, test {model.score(*part['test']):.2%}")
