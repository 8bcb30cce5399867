"""Files that someone sends: a clear error or a right answer, and nothing else happens."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Output, Trained
from little_memory import in_little_memory, linux

import lit_imdb
from lit_imdb.errors import UserError
from lit_imdb.training.checkpoint import read_checkpoint

Fails = Callable[..., str]
Change = Callable[[dict[str, Any]], None]


class Payload:
    """Unpickled carelessly, it creates the file `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return (open, (self.name, "w"))


class Filler:
    """Unpickled, it is `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return (bytearray, (self.size,))


@pytest.fixture
def changed(trained: Trained, tmp_path: Path) -> Callable[[Change], Path]:
    """A good checkpoint with one change."""

    def change_it(change: Change) -> Path:
        content = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
        change(content)
        torch.save(content, tmp_path / "sent.ckpt")
        return tmp_path / "sent.ckpt"

    return change_it


def set_in(*path: Any) -> Change:
    """Sets the value at path[:-2], key path[-2], to path[-1]."""

    def change(content: Any) -> None:
        for key in path[:-2]:
            content = content[key]
        content[path[-2]] = path[-1]

    return change


def drop(*path: Any) -> Change:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def model_checkpoint(content: dict[str, Any]) -> dict[str, Any]:
    return next(
        state for name, state in content["callbacks"].items() if name.startswith("ModelCheckpoint")
    )


# --- checkpoints that hold code ---

CODE: dict[str, Callable[[Payload], Change]] = {
    "weights": lambda code: set_in("state_dict", "net.head.bias", code),
    "model settings": lambda code: set_in("hyper_parameters", "hidden_dim", code),
    "data settings": lambda code: set_in("datamodule_hyper_parameters", "source", code),
    "callback": lambda code: set_in("callbacks", "History", code),
    "vocabulary": lambda code: set_in("ImdbDataModule", "vocabulary", code),
    "optimizer": lambda code: set_in("optimizer_states", 0, code),
    "unknown key": lambda code: set_in("extra", code),
}


@pytest.mark.parametrize("place", CODE)
def test_code_in_a_checkpoint_is_refused_and_does_not_run(
    place: str, changed: Callable[[Change], Path], trained: Trained, fails: Fails, tmp_path: Path
) -> None:
    path = changed(CODE[place](Payload("ran")))
    commands = [
        *([name, *TINY, "--data.source", trained.corpus] for name in ("fit", "validate", "test")),
        ["predict", trained.corpus],
    ]
    for command in commands:
        line = fails(*command, "--ckpt_path", path)
        assert "sent.ckpt is refused" in line
        assert "open" in line  # the function is named
    with pytest.raises(UserError, match="refused"):
        lit_imdb.load(path)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "logs").exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert (tmp_path / "ran").exists()


def test_a_bare_pickle_does_not_run(fails: Fails, tmp_path: Path) -> None:
    for name in ("sent.ckpt", "sent.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload("ran")))
        assert "damaged or no checkpoint" in fails("test", "--ckpt_path", name)
    torch.save(Payload("ran"), "old.ckpt", _use_new_zipfile_serialization=False)
    assert "damaged or no checkpoint" in fails("test", "--ckpt_path", "old.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("address", ["http://h/a", "https://h/a", "s3://b/a", "HTTP://h/a"])
def test_addresses_are_refused(address: str, fails: Fails) -> None:
    for command in (["fit"], ["test"], ["predict", "--text", "a"]):
        assert "addresses are refused" in fails(*command, "--ckpt_path", address)
    with pytest.raises(UserError, match="addresses are refused"):
        lit_imdb.load(address)


# --- checkpoints with wrong values ---

NAN = float("nan")
WRONG: dict[str, Change] = {
    "vocabulary is a number": set_in("ImdbDataModule", "vocabulary", 7),
    "vocabulary is a list": set_in("ImdbDataModule", "vocabulary", ["<pad>", "<unk>", "a"]),
    "vocabulary without padding": set_in("ImdbDataModule", "vocabulary", "a\nb"),
    "too many words": set_in("ImdbDataModule", "vocabulary", "<pad>\n<unk>" + "\na" * 2000),
    "vocabulary is missing": drop("ImdbDataModule", "vocabulary"),
    "size is a word": set_in("hyper_parameters", "hidden_dim", "abc"),
    "size is huge": set_in("hyper_parameters", "hidden_dim", 10**12),
    "size is a bit too large": set_in("hyper_parameters", "hidden_dim", 10**6),
    "size is beyond 64 bits": set_in("hyper_parameters", "embedding_dim", 10**400),
    "size is negative": set_in("hyper_parameters", "embedding_dim", -1),
    "size is true": set_in("hyper_parameters", "vocab_size", True),
    "dropout is NaN": set_in("hyper_parameters", "dropout", NAN),
    "rate is negative": set_in("hyper_parameters", "lr", -1.0),
    "engine is unknown": set_in("hyper_parameters", "engine", "os.system"),
    "setting is a list": set_in("datamodule_hyper_parameters", "source", ["a"]),
    "unknown setting": set_in("hyper_parameters", "class_path", "os.system"),
    "data setting of a wrong type": set_in("datamodule_hyper_parameters", "max_length", "abc"),
    "huge length": set_in("datamodule_hyper_parameters", "max_length", 10**12),
    "unknown tokenizer": set_in("datamodule_hyper_parameters", "tokenizer", "os.system"),
    "NaN in the weights": set_in("state_dict", "net.head.bias", torch.tensor([NAN])),
    "whole numbers as weights": set_in("state_dict", "net.head.bias", torch.tensor([1])),
    "a weight of another shape": set_in("state_dict", "net.head.bias", torch.zeros(2)),
    "a weight is missing": drop("state_dict", "net.head.bias"),
    "an unknown weight": set_in("state_dict", "net.extra", torch.zeros(1)),
    "a weight is a number": set_in("state_dict", "net.head.bias", 0.0),
    "a huge view of one number": set_in(
        "state_dict", "net.embedding.weight", torch.zeros(1).expand(10**9)
    ),
    "optimizer state too short": set_in(
        "optimizer_states", 0, "state", 0, "exp_avg", torch.zeros(1)
    ),
    "optimizer state without a part": drop("optimizer_states", 0, "state", 0, "exp_avg"),
    "optimizer state that is a number": set_in("optimizer_states", 0, "state", 0, "exp_avg", 1.0),
    "optimizer state is a scalar": set_in(
        "optimizer_states", 0, "state", 0, "exp_avg_sq", torch.tensor(0.0)
    ),
    "optimizer state of another kind too short": set_in(
        "optimizer_states", 0, "state", 0, "max_exp_avg_sq", torch.zeros(1)
    ),
    "optimizer state of text": set_in("optimizer_states", 0, "state", 0, "mode", "abc"),
    "optimizer weights in another order": set_in(
        *("optimizer_states", 0, "param_groups", 0, "params"), [1, 0, *range(2, 11)]
    ),
    "optimizer is a number": set_in("optimizer_states", 0, 7),
    "no state of the training": drop("training"),
    "seed is a word": set_in("training", "seed", "abc"),
    "seed is negative": set_in("training", "seed", -1),
    "steps are a word": set_in("global_step", "abc"),
    "version is a word": set_in("pytorch-lightning_version", "abc"),
    "loops are a list": set_in("loops", []),
    "callbacks are a list": set_in("callbacks", []),
    "best path outside": lambda content: model_checkpoint(content).update(
        best_model_path="/etc/passwd"
    ),
    "best path is an address": lambda content: model_checkpoint(content).update(
        dirpath="http://h", best_model_path="http://h/a"
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_one_line(
    wrong: str, changed: Callable[[Change], Path], trained: Trained, fails: Fails
) -> None:
    path = changed(WRONG[wrong])
    for command in ("fit", "test"):
        line = fails(command, *TINY[:6], "--ckpt_path", path, "--data.source", trained.corpus)
        assert len(line) < 1000


@pytest.mark.parametrize("wrong", sorted(WRONG.keys() - {"unknown setting"}))
def test_no_classifier_is_made_of_wrong_values(
    wrong: str, changed: Callable[[Change], Path]
) -> None:
    with pytest.raises(UserError):
        lit_imdb.load(changed(WRONG[wrong]))


def test_a_checkpoint_of_an_older_version_is_called_so(
    changed: Callable[[Change], Path], fails: Fails
) -> None:
    path = changed(WRONG["vocabulary is a list"])
    assert "as an older version wrote it; train one" in fails("test", "--ckpt_path", path)


@pytest.fixture
def sgd(run: Callable[..., Output], corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of a run with another optimizer, which still is the program's."""
    monkeypatch.setattr(
        "lit_imdb.model.module.LitSentiment.configure_optimizers",
        lambda self: torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9),
    )
    done = run(*TINY, "--data.source", corpus, "--review", "false")
    assert done.status == 0, done
    return Path("logs/imdb/version_0/checkpoints/last.ckpt")


def test_the_checkpoint_of_another_optimizer_can_be_used_and_resumed(
    sgd: Path, run: Callable[..., Output]
) -> None:
    (state,) = read_checkpoint(sgd)["optimizer_states"]
    assert state["state"][0].keys() == {"momentum_buffer"}
    assert run("test", "--ckpt_path", sgd).status == 0
    done = run("fit", "--ckpt_path", sgd, "--max_epochs", "3", "--review", "false")
    assert done.status == 0, done


@pytest.mark.parametrize("shape", [(), (1,), (60, 9)])
def test_a_short_state_of_another_optimizer_is_refused(sgd: Path, shape: tuple[int, ...]) -> None:
    content = torch.load(sgd, weights_only=True)
    content["optimizer_states"][0]["state"][0]["momentum_buffer"] = torch.zeros(shape)
    torch.save(content, "sent.ckpt")
    with pytest.raises(UserError, match="momentum_buffer of weight 0 is not"):
        read_checkpoint(Path("sent.ckpt"))


def test_a_checkpoint_cannot_have_files_deleted(
    changed: Callable[[Change], Path], trained: Trained, fails: Fails, tmp_path: Path
) -> None:
    """ModelCheckpoint deletes, recursively, what its state names as no longer the best."""
    precious = tmp_path / "precious"
    precious.mkdir()
    folder = "logs/imdb/version_0/checkpoints"
    outside = f"{folder}/../../../../precious"
    low = torch.tensor(-1.0)
    state = {
        **{"dirpath": folder, "best_model_path": outside, "kth_best_model_path": outside},
        **{"best_k_models": {outside: low}, "kth_value": low, "best_model_score": low},
    }
    path = changed(lambda content: model_checkpoint(content).update(state))
    line = fails(
        *("fit", *TINY, "--max_epochs", "4", "--ckpt_path", path), "--data.source", trained.corpus
    )
    assert "outside its folder" in line
    assert precious.exists()


def test_deep_nesting_and_shared_lists_are_refused(changed: Callable[[Change], Path]) -> None:
    many: list[Any] = []
    for _ in range(19):
        many = [many] * 10  # 10 ** 19 values, for who walks through them all
    with pytest.raises(UserError, match="nested too deep or too large"):
        read_checkpoint(changed(set_in("callbacks", "History", {"epochs": many})))


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(kept: float, trained: Trained, fails: Fails) -> None:
    content = (trained.run / "checkpoints/last.ckpt").read_bytes()
    cut = content[: round(kept * len(content)) if isinstance(kept, float) else kept]
    Path("sent.ckpt").write_bytes(cut)
    assert "damaged" in fails("test", "--ckpt_path", "sent.ckpt")


def repacked(good: Path, compression: int, **replaced: bytes) -> Path:
    with zipfile.ZipFile(good) as source, zipfile.ZipFile("sent.ckpt", "w", compression) as target:
        for entry in source.infolist():
            name = entry.filename.rsplit("/", 1)[1]
            target.writestr(entry.filename, replaced.get(name, source.read(entry)))
    return Path("sent.ckpt")


@linux
def test_a_zip_bomb_is_not_unpacked(trained: Trained) -> None:
    good = trained.run / "checkpoints/last.ckpt"
    path = repacked(good, zipfile.ZIP_DEFLATED, **{"0": bytes(700 * 2**20)})
    assert path.stat().st_size < 5 * 2**20
    assert "is damaged" in in_little_memory(f"read_checkpoint(Path({str(path)!r}))")


class Claim:
    """Unpickled, it is a tensor of `size` numbers over the memory of one."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        one = torch.zeros(1)._typed_storage()
        shape = ((self.size,), (1,))
        return (torch._utils._rebuild_tensor_v2, (one, 0, *shape, False, OrderedDict()))


@pytest.mark.parametrize("size", [2 * 10**9, 10**12])
@pytest.mark.parametrize("kind", [Filler, Claim])
@linux
def test_a_small_file_cannot_claim_much_memory(
    kind: Any, size: int, changed: Callable[[Change], Path]
) -> None:
    path = changed(set_in("extra", kind(size)))
    assert path.stat().st_size < 2**20
    in_little_memory(f"read_checkpoint(Path({str(path)!r}))")
