"""The command line: Lightning's, with a default sub-command, short flags and honest checkpoints.

Settings win in this order: command line, --config files, the checkpoint, configs/default.yaml, the
defaults in the code.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb import results
from lit_imdb.arguments import SHORT_FLAGS, full_arguments
from lit_imdb.callbacks.history import History
from lit_imdb.callbacks.last_checkpoint import LastCheckpoint
from lit_imdb.checkpoints import (
    LOGS,
    DurableCheckpointIO,
    check_sizes,
    find_checkpoint,
    read_checkpoint,
    run_of,
)
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.errors import UserError
from lit_imdb.interrupts import Interrupted, stop_at_once
from lit_imdb.memory import keep_freed_memory
from lit_imdb.model.module import LitSentiment
from lit_imdb.parser import Parser

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())


class CLI(LightningCLI):
    """LightningCLI for one model, one data module and runs in `logs/imdb/version_N`."""

    def __init__(self, args: list[str]) -> None:
        self.checkpoint: dict[str, Any] | None = None
        self.history = History()
        default_config = {"default_config_files": [str(CONFIGS / "default.yaml")]}
        super().__init__(
            LitSentiment,
            ImdbDataModule,
            args=args,
            seed_everything_default=1,
            parser_class=Parser,
            parser_kwargs={
                "description": "IMDB sentiment with an unrolled RNN; without a sub-command: fit.",
                **{command: dict(default_config) for command in self.subcommands()},
            },
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without the switches that would load a checkpoint with its code."""
        hidden = {"weights_only", "verbose", "return_predictions"}
        return {name: skip | hidden for name, skip in LightningCLI.subcommands().items()}

    # --- from arguments to a configuration ---

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        short = ", ".join(f"--{name}" for name in SHORT_FLAGS)
        kwargs["epilog"] = f"Short for the same under --trainer.: {short}."
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.vocab_size", "model.vocab_size")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_argument(
                "--checkpoint_every_n_steps",
                type=PositiveInt,
                default=500,
                help="Training steps between two writes of last.ckpt within an epoch.",
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; where a checkpoint is asked for, parses again with its settings as defaults."""
        args = full_arguments(args)
        self.config = parser.parse_args(args)
        command = self.config.subcommand
        config = self.config[command]
        asked = config.ckpt_path or (None if command == "fit" else "best")
        if asked is None:
            return
        path = find_checkpoint(asked, self.logs)
        self.checkpoint = read_checkpoint(path)
        groups = {"data": "datamodule_hyper_parameters", "model": "hyper_parameters"}
        saved = {
            f"{group}.{name}": value
            for group, key in groups.items()
            for name, value in self.checkpoint[key].items()
            if f"{group}.{name}" != "model.vocab_size"  # follows data.vocab_size
        }
        try:
            self._parser(command).set_defaults(saved)
        except Exception as error:  # jsonargparse's, whatever it makes of a name or value
            raise UserError(
                f"{path} has settings that this version does not know: {error!s:.200}"
            ) from error
        self.config = parser.parse_args(args)
        self.config[command].ckpt_path = str(path)
        check_sizes(path, self.checkpoint, self.config[command].model)
        changed = [name for name, value in saved.items() if self.config[command][name] != value]
        if command == "fit" and changed:
            now = [f"{name} {self.config[command][name]} (was {saved[name]})" for name in changed]
            rank_zero_warn(f"going on with other settings than the checkpoint's: {', '.join(now)}")

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning's own would let the checkpoint win over the command line."""

    @property
    def logs(self) -> Path:
        """The folder that holds the runs."""
        return Path(self.config[self.config.subcommand].trainer.default_root_dir or ".") / LOGS

    # --- from a configuration to objects ---

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self.subcommand].trainer
        if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            mps = trainer.accelerator == "gpu" and torch.backends.mps.is_available()
            if not mps:
                raise UserError(
                    f"no GPU is available for --accelerator {trainer.accelerator}: leave the flag "
                    "out to take what there is, or use --accelerator cpu"
                )
        if self.subcommand != "fit" or trainer.fast_dev_run:
            self.save_config_callback = None  # it belongs to a run folder, and there is none

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Adds what every run has: its folder, checkpoints, history and progress bar."""
        config = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = [*(config.callbacks or [])]
        if config.enable_progress_bar is not False:
            callbacks.append(RichProgressBar(refresh_rate=10))
        logger = config.logger
        if self.subcommand != "fit":
            logger = logger or False
            kwargs["enable_checkpointing"] = False
        else:
            if logger in (None, True):
                logger = self._run_logger()
            if config.enable_checkpointing is not False and not config.fast_dev_run:
                callbacks += [
                    ModelCheckpoint(
                        filename="best", monitor="val/acc", mode="max", enable_version_counter=False
                    ),
                    LastCheckpoint(self.config.fit.checkpoint_every_n_steps),
                ]
            callbacks.append(self.history)
        plugins = [*(config.plugins or []), DurableCheckpointIO()]
        try:
            return super().instantiate_trainer(
                logger=logger, callbacks=callbacks, plugins=plugins, **kwargs
            )
        except (ValueError, TypeError, ImportError) as error:  # an unknown strategy or device
            raise UserError(f"--trainer: {error}") from error

    def _run_logger(self) -> TensorBoardLogger:
        """A new run folder, or the one that a resumed checkpoint lies in."""
        run = run_of(self.config.fit.ckpt_path)
        if run is None or self.checkpoint is None:
            self.history.epochs_before = False
            logs = self.logs
            return TensorBoardLogger(logs.parent, name=logs.name, default_hp_metric=False)
        return TensorBoardLogger(
            run.parent.parent,
            name=run.parent.name,
            version=run.name,
            default_hp_metric=False,
            # points after the checkpoint, from the sitting that was cut off, are drawn anew
            purge_step=self.checkpoint["global_step"],
        )

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.datamodule.vocabulary = self.checkpoint["ImdbDataModule"]["vocabulary"]

    # --- the sub-commands ---

    def fit(self, **kwargs: Any) -> None:
        """Fits, tests the best checkpoint, and reports."""
        self.trainer.fit(weights_only=True, **kwargs)
        if self._get(self.config, "trainer").fast_dev_run:
            return
        figures = results.fit_figures(self.trainer, self.history)  # before test loads the best
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        tested = self.trainer.test(
            self.model, self.datamodule, best or None, verbose=False, weights_only=True
        )[0]
        figures |= {"test_acc": tested["test/acc"], "test_loss": tested["test/loss"]}
        figures["seed"] = self.config.fit.seed_everything
        if self.trainer.is_global_zero:
            self._report_fit(figures)

    def validate(self, **kwargs: Any) -> None:
        self._report("val", self.trainer.validate(verbose=False, weights_only=True, **kwargs)[0])

    def test(self, **kwargs: Any) -> None:
        self._report("test", self.trainer.test(verbose=False, weights_only=True, **kwargs)[0])

    def predict(self, **kwargs: Any) -> None:
        """Prints the test part's probabilities as JSON lines."""
        batches: Any = self.trainer.predict(weights_only=True, **kwargs)
        for probability in torch.cat(batches).tolist():
            label = "pos" if probability > 0.5 else "neg"
            print(json.dumps({"label": label, "probability": round(probability, 6)}))

    def _report(self, part: str, figures: Mapping[str, float]) -> None:
        if not self.trainer.is_global_zero:
            return
        rows = {
            "source": self.datamodule.source,
            f"{part} reviews": f"{len(self.datamodule.parts[part]):,}",
            f"{part} accuracy": results.percent(figures[f"{part}/acc"]),
            f"{part} loss": f"{figures[f'{part}/loss']:.4f}",
            "checkpoint": self.config[self.subcommand].ckpt_path,
        }
        results.print_table(f"{part} part", rows)

    def _report_fit(self, figures: dict[str, Any]) -> None:
        if isinstance(self.trainer.logger, TensorBoardLogger):
            config = self.parser.dump(self.config, format="json", skip_none=False)
            results.write_results(Path(self.trainer.logger.log_dir), figures, json.loads(config))
            self.trainer.logger.log_hyperparams(
                {**self.model.hparams, **self.datamodule.hparams, "seed": figures["seed"]},
                {f"hp/{name}": figures[name] for name in ("val_acc", "test_acc", "val_loss")},
                step=self.trainer.global_step,
            )
            self.trainer.logger.finalize("success")
        results.print_table("lit-imdb", results.fit_rows(figures))


def main(args: list[str] | None = None) -> None:
    """Runs one command; a user's mistake is one line on standard error and exit status 2."""
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning 2.6 under torch 2.13
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # test and predict need no callback of fit
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint")
    keep_freed_memory()
    stop_at_once()
    try:
        CLI(sys.argv[1:] if args is None else args)
    except Interrupted as interrupted:
        _say_how_to_go_on(interrupted)
    except (UserError, MisconfigurationException) as error:
        _stop(error, 2)
    except BrokenPipeError:  # `predict | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python flushes to at exit
        raise SystemExit(128 + 13) from None
    except Exception as error:
        _stop(error, 1)


def _say_how_to_go_on(interrupted: Interrupted) -> None:
    print(
        f"stopped by {interrupted.name}; `python train.py fit --ckpt_path last` goes on with "
        "training that had begun",
        file=sys.stderr,
    )
    raise SystemExit(128 + interrupted.signum)


def _stop(error: Exception, status: int) -> None:
    if os.environ.get("LIT_IMDB_DEBUG") == "1":
        raise error
    message = " ".join(str(error).split())
    if not isinstance(error, UserError):
        message = f"{type(error).__name__}: {message} (LIT_IMDB_DEBUG=1 shows where)"
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status) from None
