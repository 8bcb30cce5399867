"""What this program or Lightning wrote is read; what someone sends does no harm."""

import json
import pickle
import shutil
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RUN, TINY, Fails, Run, Trained, results_of, run_script
from torch.nn.utils import prune
from torch.optim import LBFGS, SGD, Adafactor, AdamW, lr_scheduler

import lit_imdb
from lit_imdb.errors import UserError
from lit_imdb.model.network import SentimentRNN
from lit_imdb.training.checkpoint import read_checkpoint

Change = Callable[[dict[str, Any]], None]
NOT_OURS = "is not a checkpoint of this program"


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
    """Set the value at path[:-2], key path[-2], to path[-1]."""

    def change(content: Any) -> None:
        for key in path[:-2]:
            content = content[key]
        content[path[-2]] = path[-1]

    return change


def drop(*path: str) -> Change:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("test --ckpt_path best", "train one with `python train.py`"),
        ("export", "train one with `python train.py`"),
        ("fit --ckpt_path last", "no last checkpoint"),
        ("fit --ckpt_path missing.ckpt", "no checkpoint missing.ckpt"),
        ("fit --ckpt_path s3://b/a.ckpt", "addresses are refused"),
        ("test --ckpt_path HTTP://h/a.ckpt", "addresses are refused"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line(command: str, said: str, fails: Fails) -> None:
    assert said in fails(*command.split())


# --- what is read ---


def callback(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": arguments}


# Callbacks that a run may have together, each with the file that it writes.
WRITERS = {
    "**/loss*.ckpt": callback("ModelCheckpoint", monitor="val/loss", filename="{val/loss:.2f}"),
    "mine/w.ckpt": callback(
        "ModelCheckpoint", save_weights_only=True, dirpath="mine", filename="w"
    ),
    "linked/last.ckpt": callback(
        "ModelCheckpoint", dirpath="linked", save_last="link", every_n_train_steps=4
    ),
    f"{RUN}/checkpoints/last-v1.ckpt": callback(
        "ModelCheckpoint", save_last=True, train_time_interval="00:00:00:00"
    ),
}
WITH_A_STATE = [
    callback("Timer", duration="00:01:00:00", interval="step"),
    callback("EarlyStopping", monitor="val/acc", strict=False),  # none after its validation
    callback("GradientAccumulationScheduler", scheduling={0: 2}),
    callback("LearningRateMonitor"),
]


def test_what_lightnings_callbacks_write_is_read(run: Run, corpus: Path) -> None:
    callbacks = [*WRITERS.values(), *WITH_A_STATE]
    Path("kind.yaml").write_text(json.dumps({"trainer": {"callbacks": callbacks}}))
    fit = ("fit", *TINY, "--config", "kind.yaml", "--data.source", corpus)
    assert run(*fit, "--max_epochs", "1").status == 0
    written = [next(Path().glob(file)) for file in WRITERS]  # before there are more
    for path in written:
        assert lit_imdb.load(path).predict("A great film")[0].label in ("neg", "pos")
        resumed = run(*fit, "--ckpt_path", path)
        if path.name == "w.ckpt":
            assert resumed.status == 2
            assert "holds the weights alone" in resumed.err
        else:
            assert resumed.status == 0, resumed


def test_weights_that_processes_pass_in_a_file_are_read(run: Run, corpus: Path) -> None:
    flags = ("--devices", "2", "--strategy", "ddp_fork")
    done = run(*TINY, *flags, "--data.source", corpus)
    assert done.status == 0, done
    assert results_of(RUN)["epochs"] == 2


def test_a_run_is_resumed_with_another_folder_for_checkpoints(run: Run, corpus: Path) -> None:
    own = ("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=own")
    fit = ("fit", *TINY, "--data.source", corpus, *own)
    assert run(*fit, "--trainer.callbacks.dirpath=one").status == 0
    every = ("--checkpoint_every_n_steps", "2", "--ckpt_path", "one/own.ckpt")
    stopped = ("--trainer.max_steps", "22", "--trainer.callbacks.dirpath=two")  # within an epoch
    assert run(*fit, *every, *stopped, "--max_epochs", "9").status == 0
    last = Path("logs/imdb/version_1/checkpoints/last.ckpt")
    assert read_checkpoint(last)["global_step"] == 22
    further = ("--max_epochs", "6", "--trainer.max_steps", "-1")
    done = run(*fit, "--ckpt_path", last, *further)
    assert done.status == 0, done


@pytest.mark.parametrize("kept", ["the whole run", "last.ckpt alone"])
def test_a_run_is_resumed_where_its_folder_is_now(kept: str, run: Run, corpus: Path) -> None:
    fit = ("fit", *TINY, "--data.source", corpus)
    assert run(*fit).status == 0
    best = (RUN / "checkpoints/best.ckpt").read_bytes()
    shutil.move("logs", "old")
    last = Path("old/imdb/version_0/checkpoints/last.ckpt")
    if kept == "last.ckpt alone":
        last = Path(shutil.copy(last, "sent.ckpt"))
        shutil.rmtree("old")
    assert run(*fit, "--max_epochs", "3", "--model.lr", "9", "--ckpt_path", last).status == 0
    if kept == "last.ckpt alone":
        assert (RUN / "checkpoints/best.ckpt").is_file()
    else:  # the rate ruins the third epoch
        assert last.with_name("best.ckpt").read_bytes() == best


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*without a model", "ignore:.*no last")
def test_python_programs_write_and_read_checkpoints_too(corpus: Path, run: Run) -> None:
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import OnExceptionCheckpoint

    class Reviews(lit_imdb.ImdbDataModule):
        """A data module whose state has another name in the checkpoint."""

    class Stops(lit_imdb.LitSentiment):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("enough")

    settings: Any = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "max_epochs": 1, "log_every_n_steps": 1}
    data: Any = {"source": str(corpus), "vocab_size": 60, "max_length": 8, "batch_size": 16}
    network: Any = {"vocab_size": 60, "embedding_dim": 8, "hidden_dim": 8}
    trainer, module = Trainer(**settings), lit_imdb.LitSentiment(**network)
    trainer.fit(module, Reviews(**data))
    for name, weights_only in (("whole.ckpt", False), ("weights.ckpt", True)):
        trainer.save_checkpoint(name, weights_only=weights_only)
        (tested,) = Trainer(**settings).test(
            lit_imdb.LitSentiment.load_from_checkpoint(name),
            Reviews.load_from_checkpoint(name),
            verbose=False,
        )
        (again,) = Trainer(**settings).test(module, Reviews(**data), name, verbose=False)
        assert tested == again
        assert lit_imdb.load(name).predict("A great film")[0].label in ("neg", "pos")
    settings["callbacks"] = [OnExceptionCheckpoint(".")]
    del settings["enable_checkpointing"]
    with pytest.raises(RuntimeError, match="enough"):
        Trainer(**settings).fit(Stops(**network), Reviews(**data))
    assert run("test", "--accelerator", "cpu", "--ckpt_path", "on_exception.ckpt").status == 0


def test_masks_that_pruning_left_apart_are_applied(changed: Callable[[Change], Path]) -> None:
    def with_mask(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        cell = torch.nn.RNNCell(8, 8)
        prune.l1_unstructured(cell, "weight_hh", 0.5)  # type: ignore[no-untyped-call]
        del weights["net.cell0.weight_hh"]
        weights.update({f"net.cell0.{n}": w for n, w in cell.state_dict().items() if "hh_" in n})

    weight = lit_imdb.load(changed(with_mask)).net.cell0.weight_hh
    assert int((weight == 0).sum()) == 32


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adafactor": Adafactor,
    "LBFGS": LBFGS,
    "SGD": SGD,
    "fused, in groups of another order": lambda weights: AdamW(
        [{"params": weights[:3:-1], "amsgrad": True}, {"params": weights[:4], "lr": 1.0}],
        fused=True,
    ),
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "ReduceLROnPlateau": lr_scheduler.ReduceLROnPlateau,
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.MultiStepLR(optimizer, [1]), lr_scheduler.StepLR(optimizer, 2)],
        [2],
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_read(name: str, changed: Callable[[Change], Path]) -> None:
    def use(content: dict[str, Any]) -> None:
        net = SentimentRNN(60, 8, 8)
        optimizer = OPTIMIZERS[name]([w for w in net.parameters() if w.requires_grad])

        def loss() -> float:
            optimizer.zero_grad()
            total = net(torch.randint(60, (4, 8))).sum()
            total.backward()
            return float(total.detach())

        optimizer.step(loss)
        content["optimizer_states"] = [optimizer.state_dict()]

    (state,) = read_checkpoint(changed(use))["optimizer_states"]
    assert state["state"] or name == "SGD"  # which has none without momentum


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_a_scheduler_is_read(name: str, changed: Callable[[Change], Path]) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], 0.1, momentum=0.9)
    state = SCHEDULERS[name](optimizer).state_dict()
    assert read_checkpoint(changed(set_in("lr_schedulers", [state])))["lr_schedulers"] == [state]


# --- code ---


class Payload:
    """Unpickled carelessly, it creates the file `ran`."""

    def __reduce__(self) -> Any:
        return (open, ("ran", "w"))


CODE = {
    "weights": set_in("state_dict", "net.head.bias", Payload()),
    "settings": set_in("hyper_parameters", "hidden_dim", Payload()),
    "an unknown key": set_in("extra", Payload()),
}


@pytest.mark.parametrize("place", CODE)
def test_code_in_a_checkpoint_is_refused_and_does_not_run(
    place: str, changed: Callable[[Change], Path], fails: Fails
) -> None:
    path = changed(CODE[place])
    with pytest.raises(UserError, match=r"sent\.ckpt is refused.*open"):  # the function is named
        lit_imdb.load(path)
    with pytest.raises(pickle.UnpicklingError):
        lit_imdb.LitSentiment.load_from_checkpoint(path)
    for command in ("fit", "validate", "test", "predict --text a", "export", "serve"):
        if place == "weights":
            assert "sent.ckpt is refused" in fails(*command.split(), "--ckpt_path", path)
    assert not Path("ran").exists()
    assert not Path("logs").exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert Path("ran").exists()


def test_a_bare_pickle_does_not_run(trained: Trained) -> None:
    Path("bare.ckpt").write_bytes(pickle.dumps(Payload()))
    torch.save(Payload(), "old.ckpt", _use_new_zipfile_serialization=False)
    archive = (trained.run / "checkpoints/last.ckpt").read_bytes()
    Path("both.ckpt").write_bytes(Path("old.ckpt").read_bytes() + archive)
    for name in ("bare.ckpt", "old.ckpt", "both.ckpt"):
        with pytest.raises(UserError, match="damaged or no checkpoint"):
            lit_imdb.load(name)
    assert not Path("ran").exists()


# --- wrong values ---


def model_checkpoint(**values: Any) -> Change:
    """Change a ModelCheckpoint's state; no files but those in `values` are named."""
    no_files = {"kth_best_model_path": "", "last_model_path": "", "best_k_models": {}}

    def change(content: dict[str, Any]) -> None:
        (name,) = (name for name in content["callbacks"] if name.startswith("ModelCheckpoint"))
        content["callbacks"][name].update({**no_files, **values})

    return change


NAN = float("nan")
SETTINGS, DATA = "hyper_parameters", "datamodule_hyper_parameters"
WRONG: dict[str, Change] = {
    "vocabulary is a number": set_in("ImdbDataModule", "vocabulary", 7),
    "vocabulary without padding": set_in("ImdbDataModule", "vocabulary", "a\nb"),
    "too many words": set_in("ImdbDataModule", "vocabulary", "<pad>\n<unk>" + "\na" * 2000),
    "vocabulary is missing": drop("ImdbDataModule", "vocabulary"),
    "size is a bit too large": set_in(SETTINGS, "hidden_dim", 10**6),
    "size is beyond 64 bits": set_in(SETTINGS, "embedding_dim", 10**400),
    "size is negative": set_in(SETTINGS, "embedding_dim", -1),
    "size is true": set_in(SETTINGS, "vocab_size", True),
    "dropout is NaN": set_in(SETTINGS, "dropout", NAN),
    "rate is NaN": set_in(SETTINGS, "lr", NAN),
    "engine is unknown": set_in(SETTINGS, "engine", "os.system"),
    "setting is a class": set_in(SETTINGS, "extra", {"class_path": "os.system"}),
    "source is a list": set_in(DATA, "source", ["a"]),
    "huge length": set_in(DATA, "max_length", 10**12),
    "unknown tokenizer": set_in(DATA, "tokenizer", "os.system"),
    "NaN in the weights": set_in("state_dict", "net.head.bias", torch.tensor([NAN])),
    "a weight of another shape": set_in("state_dict", "net.head.bias", torch.zeros(2)),
    "a weight is missing": drop("state_dict", "net.head.bias"),
    "an unknown weight": set_in("state_dict", "net.extra", torch.zeros(1)),
    "a mask without a weight": set_in("state_dict", "net.head.bias_mask", torch.zeros(1)),
    "a weight is a number": set_in("state_dict", "net.head.bias", 0.0),
    "a huge view of one number": set_in(
        "state_dict", "net.embedding.weight", torch.zeros(1).expand(10**9)
    ),
    "optimizer state over shared memory": set_in(
        *("optimizer_states", 0, "state", 0, "exp_avg", torch.zeros(1).expand(60, 8))
    ),
    "optimizer state of text": set_in("optimizer_states", 0, "state", 0, "mode", "abc"),
    "optimizer is a number": set_in("optimizer_states", 0, 7),
    "no state of the training": drop("training"),
    "seed is negative": set_in("training", "seed", -1),
    "version is ancient": set_in("pytorch-lightning_version", "0.9.0"),
    "callbacks are a list": set_in("callbacks", []),
    "best path outside": model_checkpoint(best_model_path="/etc/passwd"),
    "best path is an address": model_checkpoint(dirpath="http://h", best_model_path="http://h/a"),
    "best path leads out": model_checkpoint(dirpath="a", best_model_path="a/../../b"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_in_one_line(
    wrong: str, changed: Callable[[Change], Path]
) -> None:
    with pytest.raises(UserError, match=NOT_OURS) as error:
        lit_imdb.load(changed(WRONG[wrong]))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_checkpoint_of_another_program_is_refused(fails: Fails) -> None:
    for content in ({"state_dict": {}}, [1, 2], 3, {}):
        torch.save(content, "other.ckpt")
        with pytest.raises(UserError, match=NOT_OURS):
            lit_imdb.load("other.ckpt")
    assert "train one with train.py" in fails("fit", "--ckpt_path", "other.ckpt")


def test_a_class_named_in_the_settings_is_not_loaded(
    changed: Callable[[Change], Path], run: Run
) -> None:
    path = changed(set_in(SETTINGS, "class_path", "os.system"))
    read = run("test", "--accelerator", "cpu", "--ckpt_path", path, "--print_config")
    assert "os.system" not in read.out + read.err
    assert type(lit_imdb.load(path).net).__name__ == "SentimentRNN"


STATE = ("optimizer_states", 0, "state", 0)
OTHER_STATES: dict[str, Change] = {
    "of another weight": set_in(
        *("optimizer_states", 0, "param_groups", 0, "params", [1, 0, *range(2, 11)])
    ),
    "of another kind too short": set_in(*STATE, "max_exp_avg_sq", torch.zeros(1)),
    "an empty step": set_in(*STATE, "step", torch.zeros(0)),
}


@pytest.mark.parametrize("state", OTHER_STATES)
def test_an_optimizer_state_that_does_not_fit_is_refused_before_the_first_step(
    state: str, changed: Callable[[Change], Path], trained: Trained, run: Run
) -> None:
    resume = ("--max_epochs", "3", "--ckpt_path", changed(OTHER_STATES[state]))
    off = ("--trainer.enable_checkpointing", "false") if "short" in state else ()
    done = run("fit", *TINY, *off, *resume, "--data.source", trained.corpus)
    assert done.status == 2
    assert "not as large as its weight" in done.err.splitlines()[-1]


def test_a_checkpoint_cannot_have_files_deleted(
    changed: Callable[[Change], Path], trained: Trained, fails: Fails
) -> None:
    """ModelCheckpoint deletes, recursively, what its state names as no longer the best."""
    precious = Path("precious")
    precious.mkdir()
    folder, low = str(RUN / "checkpoints"), torch.tensor(-1.0)
    outside = f"{folder}/../../../../precious"
    change = model_checkpoint(
        **{"dirpath": folder, "best_model_path": outside, "kth_best_model_path": outside},
        **{"best_k_models": {outside: low}, "kth_value": low, "best_model_score": low},
    )
    flags = ("--max_epochs", "4", "--ckpt_path", changed(change), "--data.source", trained.corpus)
    assert "its callbacks ModelCheckpoint" in fails("fit", *TINY, *flags)
    assert precious.exists()


def test_a_checkpoint_of_another_size_is_explained(
    fails: Fails, trained: Trained, best: Path
) -> None:
    for flag in ("--model.hidden_dim", "--data.vocab_size"):
        line = fails("test", "--ckpt_path", best, "--data.source", trained.corpus, flag, "5")
        assert f"{flag} 5" in line
        assert "best.ckpt" in line


# --- damage and size ---


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, "text", "zeros"])
def test_a_damaged_checkpoint_is_named(kept: float | str, trained: Trained) -> None:
    content = (trained.run / "checkpoints/last.ckpt").read_bytes()
    damaged = {"text": b"no checkpoint\n", "zeros": bytes(len(content))}.get(str(kept))
    if not isinstance(kept, str):
        damaged = content[: round(kept * len(content)) if isinstance(kept, float) else kept]
    Path("sent.ckpt").write_bytes(damaged or b"")
    with pytest.raises(UserError, match=r"sent\.ckpt is damaged"):
        lit_imdb.load("sent.ckpt")


def test_shared_lists_and_circles_are_refused(changed: Callable[[Change], Path]) -> None:
    shared: list[Any] = []
    for _ in range(15):  # 10 ** 15 values for a walk through all of them
        shared = [shared] * 10
    circle: list[Any] = []
    circle.append(circle)
    for value in (shared, circle):
        with pytest.raises(UserError, match="too large"):
            read_checkpoint(changed(set_in("callbacks", "History", {"epochs": value})))


class Filler:
    """Unpickled, it is `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return (bytearray, (self.size,))


class Claim(Filler):
    """Unpickled, it is a tensor of `size` numbers over the memory of one."""

    def __reduce__(self) -> Any:
        one = torch.zeros(1)._typed_storage()  # type: ignore[no-untyped-call]
        shape = ((self.size,), (1,))
        return (torch._utils._rebuild_tensor_v2, (one, 0, *shape, False, OrderedDict()))


LOAD = """
import sys
import lit_imdb
from lit_imdb.errors import UserError
for name in ("Filler.ckpt", "Claim.ckpt", "bomb.ckpt"):
    try:
        lit_imdb.load(name)
    except UserError as error:
        print(error)
lit_imdb.load("good.ckpt").predict("A great film")
from lit_imdb.inference import export, predict, serve
slow_imports = ("pytorch_lightning", "lightning_fabric", "torch._dynamo")
print([name for name in slow_imports if name in sys.modules])
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_inference_needs_no_lightning_and_a_small_file_does_not_fill_the_memory(
    trained: Trained, changed: Callable[[Change], Path]
) -> None:
    for kind in (Filler, Claim):
        changed(set_in("extra", kind(2 * 10**9))).rename(f"{kind.__name__}.ckpt")
    shutil.copy(trained.run / "checkpoints/last.ckpt", "good.ckpt")
    with (
        zipfile.ZipFile("good.ckpt") as good,
        zipfile.ZipFile("bomb.ckpt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
        for entry in good.infolist():
            huge = entry.filename.endswith("/data/0")
            bomb.writestr(entry.filename, bytes(400 * 2**20) if huge else good.read(entry))
    # ru_maxrss would not do: it starts from what this process held at the fork
    *messages, lightning, peak = run_script(LOAD, Path.cwd()).out.strip().splitlines()
    for message, expected in zip(messages, ("is refused", "is damaged", "is damaged"), strict=True):
        assert expected in message
    assert lightning == "[]"
    assert int(peak.split()[1]) < 600 * 1024, peak  # importing torch takes half of it
    assert all(path.stat().st_size < 2**21 for path in Path().glob("*.ckpt"))
