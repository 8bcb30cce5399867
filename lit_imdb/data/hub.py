"""IMDB's reviews from the Hugging Face Hub, with its own test split."""

import threading
from collections.abc import Iterator
from typing import Any

from lit_imdb.errors import as_user_error

REPOSITORY = "stanfordnlp/imdb"
TIMEOUT = 4.0  # seconds until the Hub counts as out of reach


class Hub:
    """The 25,000 training and 25,000 test reviews of `stanfordnlp/imdb`."""

    name = "hub"
    note = (
        "`stanfordnlp/imdb` from the Hugging Face Hub: the Large Movie Review Dataset of Maas et "
        "al. (2011), 25,000 training and 25,000 test reviews, on its official split."
    )
    licence = (
        "The data set's card names no licence (it says `other`), and the reviews belong to those "
        'who wrote them on IMDB. Its makers ask to be cited: Maas et al., "Learning Word Vectors '
        'for Sentiment Analysis", ACL 2011.'
    )

    def fingerprint(self) -> object:
        return REPOSITORY

    def reviews(self) -> Iterator[tuple[str, int, bool]]:
        loaded = _load()
        for split in ("train", "test"):
            for batch in loaded[split].iter(1024):
                for text, label in zip(batch["text"], batch["label"], strict=True):
                    yield text, label, split == "test"


def is_available() -> bool:
    """Return whether the Hub's reviews are on disk or can be downloaded."""
    from huggingface_hub import try_to_load_from_cache

    card = try_to_load_from_cache(REPOSITORY, "README.md", repo_type="dataset")
    return isinstance(card, str) or find_problem() is None


def find_problem() -> str | None:
    """Return why the Hub does not answer within `TIMEOUT` seconds, or None if it does."""
    from huggingface_hub import HfApi

    problem: str | None = f"no answer within {TIMEOUT:.0f} s"

    def ask() -> None:
        nonlocal problem
        try:
            HfApi().dataset_info(REPOSITORY, timeout=TIMEOUT)
            problem = None
        except Exception as error:  # whatever the transport raises, it means "no"
            problem = str(error).partition("\n")[0] or type(error).__name__

    # In a thread, since the timeout of HfApi does not cover name resolution; a daemon, since the
    # program's end must not wait for it.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return problem


def _load() -> Any:
    """Return what `datasets` has on disk, or download it."""
    import datasets

    errors = (OSError, ValueError, datasets.exceptions.DatasetsError)
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        return datasets.load_dataset(REPOSITORY)
    except errors:
        pass  # not on disk, or in part
    finally:
        datasets.config.HF_HUB_OFFLINE = before
    problem = f"cannot load {REPOSITORY} from the Hugging Face Hub"
    advice = "use --data.source package, or a path to your own copy"
    with as_user_error(problem, *errors, advice=advice):
        if reason := find_problem():  # datasets would retry for half a minute
            raise ConnectionError(reason)
        return datasets.load_dataset(REPOSITORY)
