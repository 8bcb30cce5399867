"""From command line, --config files and a checkpoint to one configuration.

Settings win in this order: command line, --config files, the checkpoint, the config.yaml of its
run, configs/default.yaml, the defaults in the code.
"""

import json
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.arguments import COMMANDS, Parser
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.model.module import LitSentiment
from lit_imdb.training.checkpoint import (
    LOGS,
    check_resumable,
    check_sizes,
    find_checkpoint,
    is_custom,
    read_checkpoint,
    run_config,
    run_of,
)

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())
_CLASSES: dict[str, type] = {"model": LitSentiment, "data": ImdbDataModule}
_FINDERS = ("LearningRateFinder", "BatchSizeFinder")  # a run that resumes has what they found
_NOT_SHOWN = (
    *("config", "ckpt_path", "__default_config__", "model.vocab_size"),
    *("trainer.callbacks", "trainer.logger"),  # too long
)
# The best checkpoint and the metrics so far are of these data.
_OF_METRICS = ("data.source", "data.tokenizer", "data.max_length", "data.val_fraction")


class TrainerParser(Parser, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


class SettingsCLI(LightningCLI):
    """LightningCLI up to the configuration of one model and one data module.

    Attributes:
        ckpt_path: The file that --ckpt_path means. It is None in `config`: Lightning would let the
            checkpoint win over the command line.
        checkpoint: Its content.
        default: The configuration without any flag.
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
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,  # training.optimizers.set_optimizer does
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without `weights_only`, which could load code, and `verbose`."""
        hidden = {"weights_only", "verbose"}
        return {name: LightningCLI.subcommands()[name] | hidden for name in COMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key, cls in _CLASSES.items():
            parser.set_defaults({key: {"class_path": f"lit_imdb.{cls.__name__}"}})
        parser.link_arguments("data.init_args.vocab_size", "model.init_args.vocab_size")
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=PositiveInt,
            default=500,
            help="Training steps between two writes of last.ckpt within an epoch.",
        )
        parser.add_argument(
            "--report",
            type=bool,
            default=True,
            help="Write report.html, and pictures for TensorBoard.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was given, then put it above the defaults or a checkpoint's settings."""
        command, *flags = args
        if any(flag.partition("=")[0] == "--model.vocab_size" for flag in flags):
            raise UserError("--model.vocab_size follows the data: use --data.vocab_size")
        self.default = parser.parse_args([command])
        shows = [flag for flag in flags if flag.startswith("--print_config")]  # and ends
        given = self._given(command, [flag for flag in flags if flag not in shows])
        self.config = parser.parse_args([command, *_as_flag(given), *shows])
        asked = self.config[command].ckpt_path or (None if command == "fit" else "best")
        if asked is None:
            return
        path = self.ckpt_path = find_checkpoint(asked, self.logs)
        saved = run_config(path)
        model = (saved.get("model") or self.config[command].model)["class_path"]
        self.checkpoint = read_checkpoint(path, check_network=not is_custom(model))
        if command == "fit":
            check_resumable(path, self.checkpoint)
            saved["seed_everything"] = self.checkpoint["training"]["seed"]
        else:
            saved = {key: saved[key] for key in _CLASSES if key in saved}
        for key, settings in (
            ("data", self.checkpoint["datamodule_hyper_parameters"]),
            ("model", self.checkpoint["hyper_parameters"]),
        ):
            spec = saved.get(key) or self.config[command][key].as_dict()
            own = {name: settings.get(name, value) for name, value in spec["init_args"].items()}
            saved[key] = {**spec, "init_args": own}  # those that the class takes
        if command != "fit" and "source" in given["data"].get("init_args", {}):
            saved["data"]["init_args"].pop("encoding", None)  # wrong letters are no error
        with as_user_error(f"{path} has settings that this version does not know", UserError):
            before = parser.parse_args([command, *_as_flag(saved)])[command]
        self.config = parser.parse_args([command, *_as_flag(saved), *_as_flag(given)])
        now = self.config[command]
        now.ckpt_path = None
        check_sizes(path, self.checkpoint, now.model.init_args)
        if command == "fit":
            self._continue_run(run_of(path), before, now)
            self._check_changes(path, before, now)

    def _given(self, command: str, flags: list[str]) -> dict[str, Any]:
        """Return what `flags` say, without any default.

        Otherwise a class of one's own would take over defaults of `LitSentiment`, such as lr.
        """
        unsaid = {key: f"{cls.__module__}.{cls.__name__}" for key, cls in _CLASSES.items()}
        first = [f"--{key}={path}" for key, path in unsaid.items()]
        config = self.parser.parse_args([command, *first, *flags], defaults=False)
        text = self.parser.dump(config, "json", skip_unset=False, skip_validation=True)
        given: dict[str, Any] = json.loads(text)[command]
        for key, path in unsaid.items():
            if given[key]["class_path"] == path:
                del given[key]["class_path"]  # a checkpoint may have another
            else:
                default = {"class_path": given[key]["class_path"]}
                self.parser.set_defaults({f"{command}.{key}": default})
        return given

    @property
    def logs(self) -> Path:
        """The folder that holds the runs."""
        return Path(self.config[self.config.subcommand].trainer.default_root_dir or ".") / LOGS

    def _continue_run(self, run: Path | None, before: Namespace, now: Namespace) -> None:
        """Stay with the source that was chosen, the run's folder and what a finder found."""
        if now.data.init_args.source == "auto":
            now.data.init_args.source = before.data.init_args.source
        logger = now.trainer.logger
        if run and isinstance(logger, Namespace) and "TensorBoard" in logger.class_path:
            logger.init_args.version = run.name  # write on into the same folder
        callbacks = as_list(now.trainer.callbacks)
        kept = [c for c in callbacks if not c.class_path.endswith(_FINDERS)]
        now.trainer.callbacks = kept or None

    def _check_changes(self, path: Path, before: Namespace, now: Namespace) -> None:
        """Say what is not as before.

        Raises:
            UserError: It would not be the same run, or nothing is left to train.
        """
        old, new = ({k.replace(".init_args", ""): v for k, v in c.items()} for c in (before, now))
        changed = [name for name, value in new.items() if old.get(name) != value]
        checkpoint = self.checkpoint or {}
        fixed = (
            "seed_everything",
            "optimizer",
            "lr_scheduler",
            *(_OF_METRICS if run_of(path) else ()),
        )
        if any("total_steps" in state for state in checkpoint["lr_schedulers"]):
            fixed += ("trainer.max_epochs", "trainer.max_steps")  # a schedule has its end
        for name in changed:
            if name == "data.source" and Path(old[name]).name == Path(new[name]).name:
                continue  # it was moved
            if name.startswith(fixed):
                raise UserError(
                    f"--{name} {new[name]}: the run of {path} has {old.get(name)}; leave it out, "
                    "or retrain without --ckpt_path"
                )
        _check_unfinished(path, checkpoint, now.trainer.max_epochs)
        shown = [
            f"{name} {new[name]} (was {old.get(name)})"
            for name in changed
            if not name.startswith(_NOT_SHOWN)
        ]
        if shown:
            rank_zero_warn(f"resuming with other settings than before: {', '.join(shown)}")


def _as_flag(config: dict[str, Any]) -> list[str]:
    """Return a configuration as a flag; it wins over flags in front of it."""
    return ["--config", json.dumps(config)]


def as_list(value: Any) -> list[Any]:
    """Return what Lightning takes as one object or a list of them."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _check_unfinished(path: Path, checkpoint: dict[str, Any], max_epochs: int | None) -> None:
    run = run_of(path)
    trained = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if run is None or max_epochs in (None, -1) or trained < max_epochs:
        return
    try:
        reported = json.loads((run / "results.json").read_text())["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the test of the best checkpoint was cut off
    if reported >= trained:
        raise UserError(
            f"the run {run} has finished: to train it further, give more epochs, for example "
            f"--max_epochs {trained + 2}"
        )
