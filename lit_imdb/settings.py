"""From command line, --config files and a checkpoint to one configuration.

Settings win in this order: command line, --config files, the checkpoint, configs/default.yaml, the
defaults in the code.
"""

from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.arguments import COMMANDS, SHORT_FLAGS, full_arguments
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.errors import UserError
from lit_imdb.model.module import LitSentiment
from lit_imdb.parser import Parser
from lit_imdb.training.checkpoint import (
    LOGS,
    check_resumable,
    check_sizes,
    find_checkpoint,
    read_checkpoint,
)

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())


class TrainerParser(Parser, LightningArgumentParser):
    """Lightning's parser, with one line for each mistake."""


class SettingsCLI(LightningCLI):
    """LightningCLI as far as a configuration for one model and one data module."""

    def __init__(self, args: list[str]) -> None:
        self.checkpoint: dict[str, Any] | None = None
        self._command = full_arguments(args)[0]
        default_config = {"default_config_files": [str(CONFIGS / "default.yaml")]}
        super().__init__(
            LitSentiment,
            ImdbDataModule,
            args=args,
            seed_everything_default=1,
            parser_class=TrainerParser,
            parser_kwargs={
                "description": "IMDB sentiment with an unrolled RNN; without a sub-command: fit.",
                **{
                    name: {**default_config, "description": text} for name, text in COMMANDS.items()
                },
            },
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without the switches that would load a checkpoint with its code."""
        hidden = {"weights_only", "verbose"}
        return {name: LightningCLI.subcommands()[name] | hidden for name in COMMANDS}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        short = ", ".join(f"--{name}" for name in SHORT_FLAGS)
        kwargs["epilog"] = (
            "Three more commands, each with its --help: predict (labels for your own reviews), "
            "export (the model as a folder for other programs) and serve (a web page and a JSON "
            f"endpoint). Short for --trainer.X: {short}."
        )
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.vocab_size", "model.vocab_size")

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        # Lightning's own texts are cut off in mid-sentence
        for command in vars(parser._subcommands_action)["_choices_actions"]:
            command.help = COMMANDS[command.dest]

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        if subcommand != self._command:  # only named in the help: its flags would take 30 ms
            self._subcommand_method_arguments[subcommand] = []
            return self.init_parser()
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_argument(
                "--checkpoint_every_n_steps",
                type=PositiveInt,
                default=500,
                help="Training steps between two writes of last.ckpt within an epoch.",
            )
            parser.add_argument(
                "--report", type=bool, default=True, help="Log plots and tables to TensorBoard."
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
        if command == "fit":
            check_resumable(path, self.checkpoint)
            saved["seed_everything"] = self.checkpoint["training"]["seed"]
        try:
            self._parser(command).set_defaults(saved)
        except Exception as error:  # jsonargparse's, whatever it makes of a name or value
            raise UserError(
                f"{path} has settings that this version does not know: {error!s:.200}"
            ) from error
        self.config = parser.parse_args(args)
        self.config[command].ckpt_path = str(path)
        check_sizes(path, self.checkpoint, self.config[command].model)
        seed = saved.get("seed_everything")
        if seed is not None and self.config[command].seed_everything != seed:
            raise UserError(
                f"--seed_everything {self.config[command].seed_everything}: the run in {path} has "
                f"{seed}, which its order and dropout follow; leave it out, or train anew without "
                "--ckpt_path"
            )
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
