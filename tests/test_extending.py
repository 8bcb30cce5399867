"""What somebody adds: each is one place (docs/extending.md)."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, Output, make_reviews, results_of
from prepared import data_of

import lit_imdb
from lit_imdb.data.source import SOURCES, note_of
from lit_imdb.data.text import TOKENIZERS, Tokenizer
from lit_imdb.model.network import SentimentRNN

VOWELS = Tokenizer("vowels", version=1, rules=(("[^aeiou]+", " "),))


class Novels:
    name = "novels"
    note = "Reviews of novels."
    licence = "CC0"

    def fingerprint(self) -> object:
        return "first edition"

    def parts(self) -> dict[str, Callable[[], Iterator[tuple[str | None, int]]]]:
        return {
            "train": lambda: iter(make_reviews(100)),
            "test": lambda: iter(make_reviews(15, seed=1)),
        }


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "novels", Novels)
    monkeypatch.setitem(TOKENIZERS, "vowels", VOWELS)


OWN = [*TINY, "--data.source", "novels", "--data.tokenizer", "vowels"]


def test_an_added_source_and_tokenizer_train_and_test(run: Callable[..., Output]) -> None:
    done = run(*OWN)
    assert done.status == 0, done
    results = results_of(Path("logs/imdb/version_0"))
    assert results["source"] == "novels"
    assert results["reviews"] == {"train": 180, "val": 20, "test": 30}
    encoder = lit_imdb.load().encoder
    assert encoder.tokens("A moving film!") == ["a", "o", "i", "i"]
    assert set("".join(encoder.vocabulary[2:])) <= set("aeiou")
    done = run("test", "--accelerator", "cpu")
    assert "novels" in done.out, done
    assert note_of("novels") == ("Reviews of novels.", "CC0")


def test_another_version_of_a_tokenizer_has_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders_after_a_preparation() -> set[Path]:
        data_of(Path("novels"), tokenizer="vowels", cache_dir=tmp_path / "own")
        return {path for path in (tmp_path / "own").iterdir() if path.is_dir()}

    first = folders_after_a_preparation()
    assert folders_after_a_preparation() == first
    monkeypatch.setitem(TOKENIZERS, "vowels", dataclasses.replace(VOWELS, version=2))
    assert folders_after_a_preparation() > first


def test_an_unknown_tokenizer_is_one_line_that_lists_the_known(fails: Callable[..., str]) -> None:
    line = fails(*TINY, "--data.source", "novels", "--data.tokenizer", "letters")
    assert "unknown tokenizer 'letters': expected one of words, basic_english, vowels" in line


class Scaled(SentimentRNN):
    """The network with one more setting."""

    def __init__(
        self,
        vocab_size: int = 10_000,
        embedding_dim: int = 100,
        hidden_dim: int = 64,
        dropout: float = 0.2,
        engine: str = "auto",
        scale: float = 1.0,
    ) -> None:
        super().__init__(vocab_size, embedding_dim, hidden_dim, dropout, engine)  # type: ignore[arg-type]
        self.scale = scale


def test_a_setting_of_the_network_needs_to_stand_in_its_signature_alone(
    run: Callable[..., Output], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("model.module", "training.untrusted", "inference.classifier"):
        monkeypatch.setattr(f"lit_imdb.{user}.SentimentRNN", Scaled)
    done = run(*TINY, "--data.source", corpus, "--model.scale", "3")
    assert done.status == 0, done
    assert results_of(Path("logs/imdb/version_0"))["config"]["fit"]["model"]["scale"] == 3
    net = lit_imdb.load().net
    assert isinstance(net, Scaled)
    assert net.scale == 3
    assert run("test", "--accelerator", "cpu").status == 0


def test_a_callback_is_a_module_of_ones_own(
    run: Callable[..., Output], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_module.py").write_text(
        "from pathlib import Path\n"
        "from pytorch_lightning import Callback\n"
        "class MyCallback(Callback):\n"
        "    def on_train_epoch_end(self, trainer, pl_module):\n"
        "        Path(f'epoch{trainer.current_epoch}').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    done = run(*TINY, "--data.source", corpus, "--trainer.callbacks", "my_module.MyCallback")
    assert done.status == 0, done
    assert sorted(file.name for file in Path().glob("epoch*")) == ["epoch0", "epoch1"]
