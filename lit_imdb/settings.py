"""From command line, --config files and a checkpoint to one configuration.

Settings win in this order: command line, --config files, the checkpoint, the config.yaml of its
run, configs/default.yaml, the defaults in the code.
"""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from lit_imdb.arguments import COMMANDS, Parser
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.help import RUN_FLAGS
from lit_imdb.model.module import LitSentiment
from lit_imdb.resumption import continue_run
from lit_imdb.training.checkpoint import (
    LOGS,
    check_resumable,
    check_sizes,
    find_checkpoint,
    is_custom,
    read_checkpoint,
    run_config,
)

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())
_CLASSES: dict[str, type] = {"model": LitSentiment, "data": ImdbDataModule}


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
        self._command = args[0]
        files = [str(CONFIGS / "default.yaml")]
        text = COMMANDS[self._command]
        super().__init__(
            LitSentiment,
            ImdbDataModule,
            args=args,
            seed_everything_default=1,
            parser_class=TrainerParser,
            parser_kwargs={self._command: {"default_config_files": files, "description": text}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,  # training.optimizers.set_optimizer does
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # static there
        """Return the one that was typed, without `weights_only`, which could load code."""
        hidden = {"weights_only", "verbose"}
        return {self._command: LightningCLI.subcommands()[self._command] | hidden}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for key, cls in _CLASSES.items():
            parser.set_defaults({key: {"class_path": f"lit_imdb.{cls.__name__}"}})
        parser.link_arguments("data.init_args.vocab_size", "model.init_args.vocab_size")
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        steps, report = "--checkpoint_every_n_steps", "--report"
        parser.add_argument(steps, type=PositiveInt, default=500, help=RUN_FLAGS[steps])
        parser.add_argument(report, type=bool, default=True, help=RUN_FLAGS[report])

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was given, then put it above the defaults or a checkpoint's settings."""
        command, *flags = args
        if any(flag.partition("=")[0] == "--model.vocab_size" for flag in flags):
            raise UserError("--model.vocab_size follows the data: use --data.vocab_size")
        self.default = parser.parse_args([command])
        shows = [flag for flag in flags if flag.startswith("--print_config")]  # and ends
        given = self._given(command, [flag for flag in flags if flag not in shows])
        self.config = parser.parse_args([command, *shows], namespace=given)
        asked = self.config[command].ckpt_path or (None if command == "fit" else "best")
        if asked:
            self.ckpt_path = find_checkpoint(asked, self.logs)
            self._put_above(self.ckpt_path, command, given)

    def _given(self, command: str, flags: list[str]) -> Namespace:
        """Return what `flags` say, without any default.

        Otherwise a class of one's own would take over defaults of `LitSentiment`, such as lr.
        """
        unsaid = {key: f"{cls.__module__}.{cls.__name__}" for key, cls in _CLASSES.items()}
        first = [f"--{key}={path}" for key, path in unsaid.items()]
        given = self.parser.parse_args([command, *first, *flags], defaults=False)
        for key, path in unsaid.items():
            named = given[command][key].class_path
            if named == path:
                del given[command][key]["class_path"]  # a checkpoint may have another
            else:
                self.parser.set_defaults({f"{command}.{key}": {"class_path": named}})
        return given

    def _put_above(self, path: Path, command: str, given: Namespace) -> None:
        """Put what was given above a checkpoint's settings and, to resume, its run's others."""
        saved = run_config(path)
        model = (saved.get("model") or self.config[command].model)["class_path"]
        checkpoint = self.checkpoint = read_checkpoint(path, check_network=not is_custom(model))
        if command == "fit":
            check_resumable(path, checkpoint)
            saved["seed_everything"] = checkpoint["training"]["seed"]
        else:
            saved = {key: saved[key] for key in _CLASSES if key in saved}
        for key, settings in (
            ("data", checkpoint["datamodule_hyper_parameters"]),
            ("model", checkpoint["hyper_parameters"]),
        ):
            spec = saved.get(key) or self.config[command][key].as_dict()
            takes = spec.get("init_args", {})
            own = {name: settings.get(name, value) for name, value in takes.items()}
            saved[key] = {**spec, "init_args": own}  # those that the class takes
            if "class_path" not in given[command][key]:
                given[command][key].class_path = spec["class_path"]
        if command != "fit" and "source" in given[command].data.get("init_args", {}):
            saved["data"]["init_args"].pop("encoding", None)  # wrong letters are no error
        with as_user_error(f"{path} has settings that this version does not know", UserError):
            before = self.parser.parse_object({command: saved})
        self.config = self.parser.parse_object(given, before)
        now = self.config[command]
        now.ckpt_path = None
        check_sizes(path, checkpoint, now.model.init_args)
        if command == "fit":
            continue_run(path, checkpoint, before[command], now)

    @property
    def logs(self) -> Path:
        """The folder that holds the runs."""
        return Path(self.config[self.config.subcommand].trainer.default_root_dir or ".") / LOGS
