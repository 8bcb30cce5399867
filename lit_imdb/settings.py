"""From command line, --config files and a checkpoint to one configuration.

Settings win in this order: command line, --config files, the checkpoint, the config.yaml of the run
that resumes, configs/default.yaml, the defaults in the code.
"""

import json
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.arguments import COMMANDS, Parser, full_arguments
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.errors import UserError
from lit_imdb.model.module import LitSentiment
from lit_imdb.training.checkpoint import (
    LOGS,
    check_resumable,
    check_sizes,
    find_checkpoint,
    read_checkpoint,
    run_of,
)

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())
_NO_SETTINGS = ("config", "ckpt_path", "__default_config__", "model.vocab_size")


class TrainerParser(Parser, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


class SettingsCLI(LightningCLI):
    """LightningCLI up to the configuration of one model and one data module.

    Attributes:
        ckpt_path: The file that --ckpt_path means. It is None in `config`: Lightning would let the
            checkpoint win over the command line.
        checkpoint: Its content.
    """

    def __init__(self, args: list[str]) -> None:
        self.ckpt_path: Path | None = None
        self.checkpoint: dict[str, Any] | None = None
        defaults = {"default_config_files": [str(CONFIGS / "default.yaml")]}
        commands = {name: {**defaults, "description": text} for name, text in COMMANDS.items()}
        super().__init__(
            LitSentiment,
            ImdbDataModule,
            args=args,
            seed_everything_default=1,
            parser_class=TrainerParser,
            parser_kwargs=commands,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without the switches that would load a checkpoint with its code."""
        hidden = {"weights_only", "verbose"}
        return {name: LightningCLI.subcommands()[name] | hidden for name in COMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.vocab_size", "model.vocab_size")
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=PositiveInt,
            default=500,
            help="Training steps between two writes of last.ckpt within an epoch.",
        )
        parser.add_argument(
            "--report", type=bool, default=True, help="Log plots and tables to TensorBoard."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; with a checkpoint, parse again with its settings below the command line's."""
        command, *flags = full_arguments(args)
        self.config = parser.parse_args([command, *flags])
        asked = self.config[command].ckpt_path or (None if command == "fit" else "best")
        if asked is None:
            return
        path = self.ckpt_path = find_checkpoint(asked, self.logs)
        self.checkpoint = read_checkpoint(path)
        if command == "fit":
            check_resumable(path, self.checkpoint)
        # `--trainer.callbacks+=X`: X must not come on top of the X that the run has already
        added = [f.partition("+=")[0].removeprefix("--trainer.") for f in flags if "+=" in f]
        saved = _saved_settings(command, path, self.checkpoint, added)
        try:
            before = parser.parse_args([command, *saved])[command]
        except UserError as error:
            raise UserError(
                f"{path} has settings that this version does not know: {error!s:.200}"
            ) from error
        self.config = parser.parse_args([command, *saved, *flags])
        now = self.config[command]
        now.ckpt_path = None
        check_sizes(path, self.checkpoint, now.model)
        if command == "fit":
            if now.data.source == "auto":
                now.data.source = before.data.source
            for config in (before, now):
                callbacks = config.trainer.callbacks
                if isinstance(callbacks, list):
                    config.trainer.callbacks = [c for c in callbacks if not _tunes(c)]
            _check_resumption(path, self.checkpoint, before, now)
            unlike = [name for name, value in now.items() if before.get(name) != value]
            others = {*_NO_SETTINGS, *(f"trainer.{name}" for name in added)}
            changed = [
                f"{name} {now[name]} (was {before.get(name)})"
                for name in unlike
                if name not in others
            ]
            if changed:
                rank_zero_warn(f"resuming with other settings than before: {', '.join(changed)}")

    @property
    def logs(self) -> Path:
        """The folder that holds the runs."""
        return Path(self.config[self.config.subcommand].trainer.default_root_dir or ".") / LOGS


def _saved_settings(
    command: str, path: Path, checkpoint: dict[str, Any], unset: list[str]
) -> list[str]:
    """Return flags with a checkpoint's settings and, to resume, those of its run's config.yaml."""
    settings: dict[str, Any] = {
        "data": checkpoint["datamodule_hyper_parameters"],
        # the vocabulary's size follows data.vocab_size
        "model": {k: v for k, v in checkpoint["hyper_parameters"].items() if k != "vocab_size"},
    }
    files = []
    if command == "fit":
        settings["seed_everything"] = checkpoint["training"]["seed"]
        settings["trainer"] = dict.fromkeys(unset)
        run = run_of(str(path))
        if run and (run / "config.yaml").is_file():
            files = ["--config", str(run / "config.yaml")]
    return [*files, "--config", json.dumps(settings)]


def _tunes(callback: Namespace) -> bool:
    """Whether a callback looks for a setting before training: a run that resumes has it."""
    name: str = callback.class_path
    return name.endswith(("LearningRateFinder", "BatchSizeFinder"))


def _check_resumption(
    path: Path, checkpoint: dict[str, Any], before: Namespace, now: Namespace
) -> None:
    """Refuse to resume what would not be the same run.

    Raises:
        UserError: Another seed, other data, or nothing left to train.
    """
    fixed = ["seed_everything"]
    if run_of(str(path)):  # its best checkpoint and its metrics are of the same data
        fixed += ["data.source", "data.tokenizer", "data.max_length", "data.val_fraction"]
    for name in fixed:
        moved = name == "data.source" and Path(before[name]).name == Path(now[name]).name
        if before[name] != now[name] and not moved:
            raise UserError(
                f"--{name} {now[name]}: the run of {path} has {before[name]}; leave it out, or "
                "train anew without --ckpt_path"
            )
    _check_unfinished(path, checkpoint, now.trainer.max_epochs)


def _check_unfinished(path: Path, checkpoint: dict[str, Any], max_epochs: int | None) -> None:
    run = run_of(str(path))
    trained = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if run is None or max_epochs in (None, -1) or trained < max_epochs:
        return
    try:
        reported = json.loads((run / "results.json").read_text())["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the test of the best checkpoint was cut off
    if reported >= trained:
        raise UserError(
            f"the run {run} is finished after {trained} epochs: to train it further, give more, "
            f"for example --max_epochs {trained + 2}"
        )
