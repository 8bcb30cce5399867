"""What this program or Lightning wrote is read; what someone sends does no harm."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY, Output, Trained, results_of, run_script
from torch.nn.utils import prune
from torch.optim import lr_scheduler

import lit_imdb
from lit_imdb.errors import UserError
from lit_imdb.model.network import network_of
from lit_imdb.training.checkpoint import read_checkpoint

Run = Callable[..., Output]
Fails = Callable[..., str]
Change = Callable[[dict[str, Any]], None]


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


def drop(*path: Any) -> Change:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


# --- what is found ---


@pytest.mark.parametrize("command", ["validate", "test", "export"])
def test_no_checkpoint_yet_says_to_train_one(command: str, fails: Fails) -> None:
    for which in ("best", "last"):
        assert "python train.py" in fails(command, "--ckpt_path", which)


def test_nothing_to_resume_is_said(fails: Fails, corpus: Path) -> None:
    assert "no last checkpoint" in fails("fit", "--ckpt_path", "last", "--data.source", corpus)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_missing_checkpoint_is_named(command: str, fails: Fails) -> None:
    assert "missing.ckpt" in fails(command, "--ckpt_path", "missing.ckpt")


# --- what is read ---


def callback(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": arguments}


RUN = "logs/imdb/version_0/checkpoints"
# Callbacks that a run may have together, each with the file that it writes.
WRITERS = {
    "**/loss*.ckpt": callback("ModelCheckpoint", monitor="val/loss", filename="{val/loss:.2f}"),
    "mine/w.ckpt": callback(
        "ModelCheckpoint", save_weights_only=True, dirpath="mine", filename="w"
    ),
    "linked/last.ckpt": callback(
        "ModelCheckpoint", dirpath="linked", save_last="link", every_n_train_steps=4
    ),
    f"{RUN}/last-v1.ckpt": callback(
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
    assert run(*fit).status == 0
    written = [next(Path().glob(file)) for file in WRITERS]  # before there are more
    for path in written:
        assert run("test", "--accelerator", "cpu", "--ckpt_path", path).status == 0, path
        assert lit_imdb.load(path).predict("A great film")[0].label in ("neg", "pos")
        resumed = run(*fit, "--max_epochs", "3", "--ckpt_path", path)
        if path.name == "w.ckpt":
            assert resumed.status == 2
            assert "holds the weights alone" in resumed.err
        else:
            assert resumed.status == 0, resumed


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "devices"), [("ddp_spawn", 1), ("ddp_fork", 2)])
def test_weights_that_processes_pass_in_a_file_are_read(
    strategy: str, devices: int, run: Run, corpus: Path
) -> None:
    flags = ("--devices", devices, "--strategy", strategy)
    done = run(*TINY, *flags, "--data.source", corpus)
    assert done.status == 0, done
    assert results_of(Path(RUN).parent)["epochs"] == 2
    assert run("test", "--accelerator", "cpu").status == 0


@pytest.mark.parametrize("place", [shutil.move, shutil.copytree])
def test_a_run_is_resumed_where_its_folder_is_now(
    place: Callable[[str, str], Any], run: Run, corpus: Path
) -> None:
    fit = ("fit", *TINY, "--data.source", corpus, "--report", "false")
    assert run(*fit).status == 0
    place("logs", "new/logs")
    best = Path("new", RUN, "best.ckpt").read_bytes()
    ruin = ("--max_epochs", "3", "--model.lr", "9", "--ckpt_path", f"new/{RUN}/last.ckpt")
    assert run(*fit, *ruin).status == 0
    assert Path("new", RUN, "best.ckpt").read_bytes() == best


def test_a_run_is_resumed_with_another_folder_for_checkpoints(run: Run, corpus: Path) -> None:
    own = ("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=own")
    fit = ("fit", *TINY, "--data.source", corpus, "--report", "false", *own)
    assert run(*fit, "--trainer.callbacks.dirpath=one").status == 0
    every = ("--checkpoint_every_n_steps", "2", "--ckpt_path", "one/own.ckpt")
    stopped = ("--trainer.max_steps", "22", "--trainer.callbacks.dirpath=two")  # within an epoch
    assert run(*fit, *every, *stopped, "--max_epochs", "9").status == 0
    last = "logs/imdb/version_1/checkpoints/last.ckpt"
    assert read_checkpoint(Path(last))["global_step"] == 22
    further = ("--max_epochs", "7", "--trainer.max_steps", "-1")
    assert run(*fit, "--ckpt_path", last, *further).status == 0


def test_a_run_is_resumed_without_its_best_checkpoint(run: Run, corpus: Path) -> None:
    fit = ("fit", *TINY, "--data.source", corpus, "--report", "false")
    assert run(*fit).status == 0
    shutil.copy(f"{RUN}/last.ckpt", "sent.ckpt")
    shutil.rmtree("logs")
    ruin = ("--max_epochs", "3", "--model.lr", "9", "--ckpt_path", "sent.ckpt")
    assert run(*fit, *ruin).status == 0
    assert Path(RUN, "best.ckpt").is_file()


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
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
    def with_masks(content: dict[str, Any]) -> None:
        net = network_of(content["hyper_parameters"])
        weights = content["state_dict"].items()
        net.load_state_dict({name[4:]: w for name, w in weights if name.startswith("net.")})
        prune.l1_unstructured(net.cell0, "weight_hh", 0.5)  # type: ignore[no-untyped-call]
        pruned.append(net.cell0.weight_hh)
        content["state_dict"] = {f"net.{name}": w for name, w in net.state_dict().items()}

    pruned: list[torch.Tensor] = []
    net = lit_imdb.load(changed(with_masks)).net
    assert torch.equal(net.cell0.weight_hh, pruned[0])
    assert int((net.cell0.weight_hh == 0).sum()) == 32


PLAIN = ["Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam"]
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    **{name: getattr(torch.optim, name) for name in [*PLAIN, "RMSprop", "Rprop", "SGD"]},
    "fused AdamW": lambda weights: torch.optim.AdamW(weights, fused=True),
    "fused Adagrad": lambda weights: torch.optim.Adagrad(weights, fused=True),
    "amsgrad": lambda weights: torch.optim.Adam(weights, amsgrad=True),
    "momentum": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "LBFGS": lambda weights: torch.optim.LBFGS(weights, max_iter=2),
    "groups in another order": lambda weights: torch.optim.AdamW(
        [{"params": weights[:3:-1], "amsgrad": True}, {"params": weights[:4], "lr": 1.0}]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_is_read(name: str, changed: Callable[[Change], Path]) -> None:
    def use(content: dict[str, Any]) -> None:
        net = network_of(content["hyper_parameters"])
        optimizer = OPTIMIZERS[name]([w for w in net.parameters() if w.requires_grad])

        def loss() -> float:
            optimizer.zero_grad()
            total = net(torch.randint(60, (4, 8))).sum()
            total.backward()
            return float(total)

        optimizer.step(loss)
        content["optimizer_states"] = [optimizer.state_dict()]

    (state,) = read_checkpoint(changed(use))["optimizer_states"]
    assert state["state"] or name == "SGD"  # which has none without momentum


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 1),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 2]),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.1, 0.2),
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.ConstantLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 5)],
        [2],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_a_scheduler_is_read(name: str, changed: Callable[[Change], Path]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1, momentum=0.9)
    state = SCHEDULERS[name](optimizer).state_dict()
    assert read_checkpoint(changed(set_in("lr_schedulers", [state])))["lr_schedulers"] == [state]


def test_loading_a_classifier_needs_no_lightning(trained: Trained) -> None:
    script = f"""
import sys
import lit_imdb
lit_imdb.load({str(trained.run / "checkpoints/best.ckpt")!r}).predict("A great film")
print([name for name in ("pytorch_lightning", "lightning_fabric") if name in sys.modules])
"""
    done = run_script(script, trained.folder)
    assert done.out == "[]\n", done


# --- code ---


class Payload:
    """Unpickled carelessly, it creates the file `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return (open, (self.name, "w"))


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
    line = fails("test", "--ckpt_path", path, "--data.source", trained.corpus)
    assert "sent.ckpt is refused" in line
    assert "open" in line  # the function is named
    with pytest.raises(UserError, match="refused"):
        lit_imdb.load(path)
    with pytest.raises(pickle.UnpicklingError):  # what load_from_checkpoint gives
        lit_imdb.LitSentiment.load_from_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert (tmp_path / "ran").exists()


def test_every_command_refuses_code(
    changed: Callable[[Change], Path], trained: Trained, fails: Fails, tmp_path: Path
) -> None:
    path = changed(CODE["weights"](Payload("ran")))
    for command in ("fit", "validate", "predict --text a", "export", "serve"):
        assert "sent.ckpt is refused" in fails(*command.split(), "--ckpt_path", path)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "logs").exists()


def test_a_bare_pickle_does_not_run(fails: Fails, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Payload("ran")))
    torch.save(Payload("ran"), "old.ckpt", _use_new_zipfile_serialization=False)
    archive = (trained.run / "checkpoints/last.ckpt").read_bytes()
    (tmp_path / "both.ckpt").write_bytes((tmp_path / "old.ckpt").read_bytes() + archive)
    for name in ("bare.ckpt", "old.ckpt", "both.ckpt"):
        assert "damaged or no checkpoint" in fails("test", "--ckpt_path", name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("address", ["http://h/a", "https://h/a", "s3://b/a", "HTTP://h/a"])
def test_addresses_are_refused(address: str, fails: Fails) -> None:
    for command in ("fit", "test"):
        assert "addresses are refused" in fails(command, "--ckpt_path", address)
    with pytest.raises(UserError, match="download it yourself"):
        lit_imdb.load(address)


# --- wrong values ---


def model_checkpoint(**values: Any) -> Change:
    """Change a ModelCheckpoint's state; no files but those in `values` are named."""
    no_files = {"kth_best_model_path": "", "last_model_path": "", "best_k_models": {}}

    def change(content: dict[str, Any]) -> None:
        (name,) = (name for name in content["callbacks"] if name.startswith("ModelCheckpoint"))
        content["callbacks"][name].update({**no_files, **values})

    return change


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
    "rate is NaN": set_in("hyper_parameters", "lr", NAN),
    "engine is unknown": set_in("hyper_parameters", "engine", "os.system"),
    "setting is a class": set_in("hyper_parameters", "extra", {"class_path": "os.system"}),
    "setting is a list": set_in("datamodule_hyper_parameters", "source", ["a"]),
    "data setting of a wrong type": set_in("datamodule_hyper_parameters", "max_length", "abc"),
    "huge length": set_in("datamodule_hyper_parameters", "max_length", 10**12),
    "unknown tokenizer": set_in("datamodule_hyper_parameters", "tokenizer", "os.system"),
    "NaN in the weights": set_in("state_dict", "net.head.bias", torch.tensor([NAN])),
    "NaN in a metric": set_in("state_dict", "train_metrics.loss", torch.tensor(NAN)),
    "whole numbers as weights": set_in("state_dict", "net.head.bias", torch.tensor([1])),
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
    "seed is a word": set_in("training", "seed", "abc"),
    "seed is negative": set_in("training", "seed", -1),
    "steps are a word": set_in("global_step", "abc"),
    "version is a word": set_in("pytorch-lightning_version", "abc"),
    "version is ancient": set_in("pytorch-lightning_version", "0.9.0"),
    "loops are a list": set_in("loops", []),
    "callbacks are a list": set_in("callbacks", []),
    "best path outside": model_checkpoint(best_model_path="/etc/passwd"),
    "best path is an address": model_checkpoint(dirpath="http://h", best_model_path="http://h/a"),
    "best path leads out": model_checkpoint(dirpath="a", best_model_path="a/../../b"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_in_one_line(
    wrong: str, changed: Callable[[Change], Path]
) -> None:
    with pytest.raises(UserError, match="is not a checkpoint of this program") as error:
        lit_imdb.load(changed(WRONG[wrong]))
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], 3, {}])
def test_a_checkpoint_of_another_program_is_refused(content: Any, fails: Fails) -> None:
    torch.save(content, "other.ckpt")
    for command in ("fit", "test"):
        line = fails(command, "--ckpt_path", "other.ckpt")
        assert "not a checkpoint of this program" in line
        assert "train one with train.py" in line


def test_a_class_named_in_the_settings_is_not_loaded(
    changed: Callable[[Change], Path], run: Run, trained: Trained
) -> None:
    path = changed(set_in("hyper_parameters", "class_path", "os.system"))
    read = run("test", "--accelerator", "cpu", "--ckpt_path", path, "--print_config")
    assert "os.system" not in read.out + read.err
    assert type(lit_imdb.load(path).net).__name__ == "SentimentRNN"


STATE = ("optimizer_states", 0, "state", 0)
OTHER_STATES: dict[str, Change] = {
    "of another weight": set_in(
        *("optimizer_states", 0, "param_groups", 0, "params", [1, 0, *range(2, 11)])
    ),
    "of the same weight twice": set_in(
        *("optimizer_states", 0, "param_groups", 0, "params", [0, 0, *range(2, 11)])
    ),
    "too short": set_in(*STATE, "exp_avg", torch.zeros(1)),
    "of another kind too short": set_in(*STATE, "max_exp_avg_sq", torch.zeros(1)),
    "a scalar": set_in(*STATE, "exp_avg_sq", torch.tensor(0.0)),
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
    changed: Callable[[Change], Path], trained: Trained, fails: Fails, tmp_path: Path
) -> None:
    """ModelCheckpoint deletes, recursively, what its state names as no longer the best."""
    precious = tmp_path / "precious"
    precious.mkdir()
    outside, low = f"{RUN}/../../../../precious", torch.tensor(-1.0)
    change = model_checkpoint(
        **{"dirpath": RUN, "best_model_path": outside, "kth_best_model_path": outside},
        **{"best_k_models": {outside: low}, "kth_value": low, "best_model_score": low},
    )
    flags = ("--max_epochs", "4", "--ckpt_path", changed(change), "--data.source", trained.corpus)
    assert "its callbacks ModelCheckpoint" in fails("fit", *TINY, *flags)
    assert precious.exists()


def test_a_checkpoint_of_another_size_is_explained(fails: Fails, trained: Trained) -> None:
    path = trained.run / "checkpoints/best.ckpt"
    for flag in ("--model.hidden_dim", "--model.embedding_dim", "--data.vocab_size"):
        line = fails("test", "--ckpt_path", path, "--data.source", trained.corpus, flag, "5")
        assert f"{flag} 5" in line
        assert "best.ckpt" in line


# --- damage and size ---


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, "text", "zeros"])
def test_a_damaged_checkpoint_is_named(kept: float | str, trained: Trained, fails: Fails) -> None:
    content = (trained.run / "checkpoints/last.ckpt").read_bytes()
    damaged = {"text": b"no checkpoint\n", "zeros": bytes(len(content))}.get(str(kept))
    if not isinstance(kept, str):
        damaged = content[: round(kept * len(content)) if isinstance(kept, float) else kept]
    Path("sent.ckpt").write_bytes(damaged or b"")
    assert "sent.ckpt is damaged" in fails("test", "--ckpt_path", "sent.ckpt")


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


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_small_file_does_not_fill_the_memory(
    trained: Trained, changed: Callable[[Change], Path]
) -> None:
    for kind in (Filler, Claim):
        changed(set_in("extra", kind(2 * 10**9))).rename(f"{kind.__name__}.ckpt")
    with (
        zipfile.ZipFile(trained.run / "checkpoints/last.ckpt") as good,
        zipfile.ZipFile("bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in good.infolist():
            huge = entry.filename.endswith("/data/0")
            bomb.writestr(entry.filename, bytes(400 * 2**20) if huge else good.read(entry))
    done = run_script(  # ru_maxrss would not do: it starts from what this process held at the fork
        "from pathlib import Path\n"
        "from lit_imdb.training.checkpoint import read_checkpoint\n"
        "from lit_imdb.errors import UserError\n"
        "for name in ('Filler.ckpt', 'Claim.ckpt', 'bomb.ckpt'):\n"
        "    try: read_checkpoint(Path(name))\n"
        "    except UserError as error: print(error)\n"
        "print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')])",
        Path.cwd(),
    )
    *messages, peak = done.out.strip().splitlines()
    for message, expected in zip(messages, ("is refused", "is damaged", "is damaged"), strict=True):
        assert expected in message
    assert int(peak.split()[1]) < 600 * 1024, peak  # importing torch takes half of it
    assert all(path.stat().st_size < 2**20 for path in Path().glob("*.ckpt"))


# --- signals ---


@pytest.mark.slow
def test_a_signal_ends_a_program_that_waits_for_other_nodes(corpus: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    two_nodes = ["--trainer.num_nodes", "2", "--data.source", str(corpus)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, *two_nodes],
        env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    )
    try:
        for _ in range(600):  # until it listens for the other node
            time.sleep(0.1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGTERM  # the shell's 143
