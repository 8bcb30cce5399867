"""The default command, the short flags, and a parser with one-line errors."""

from typing import Any

from jsonargparse import ArgumentParser

from lit_imdb.errors import UserError

SHORT_FLAGS = ("accelerator", "devices", "strategy", "precision", "max_epochs", "fast_dev_run")
COMMANDS = {
    "fit": "Train, test the best checkpoint and print a table. The default command.",
    "validate": "Evaluate a checkpoint, by default the newest best one, on the validation split.",
    "test": "Evaluate a checkpoint, by default the newest best one, on the test split.",
}
ALONE = (
    "predict",
    "export",
    "serve",
    "runs",
)  # these need no Trainer: main() runs them without Lightning
_HELP = ("-h", "--help")


def full_arguments(args: list[str]) -> list[str]:
    """Return `args` with the command named and short flags spelled out; idempotent.

    >>> full_arguments(["--accelerator", "cpu", "--max_epochs=2"])
    ['fit', '--trainer.accelerator', 'cpu', '--trainer.max_epochs=2']
    >>> full_arguments(["test", "--devices", "1"])
    ['test', '--trainer.devices', '1']
    >>> full_arguments(["--fast_dev_run"])
    ['fit', '--trainer.fast_dev_run=true']
    """
    if not args or args[0] not in (*COMMANDS, *_HELP):
        args = ["fit", *args]
    followers = [*args[1:], "--"]
    return [_spell_out(argument, next_) for argument, next_ in zip(args, followers, strict=True)]


def _spell_out(argument: str, follower: str) -> str:
    if argument == "--fast_dev_run" and follower.startswith("--"):
        argument += "=true"
    name, equals, value = argument.partition("=")
    if name.startswith("--") and name[2:] in SHORT_FLAGS:
        return f"--trainer.{name[2:]}{equals}{value}"
    return argument


class Parser(ArgumentParser):
    """Raises `UserError` instead of printing a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would take the misspelt --model.hidden for --model.hidden_dim.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a --config file; errors name the file."""
        try:
            return super().parse_path(cfg_path, *args, **kwargs)
        except UserError as error:
            raise UserError(f"--config {cfg_path}: {error}") from error

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the configuration as text that can be parsed again.

        jsonargparse puts these words before a string or device that may also be a function or an
        object, such as the `device` of StochasticWeightAveraging.
        """
        text: str = super().dump(*args, **kwargs)
        return text.replace("Unable to serialize instance ", "")

    def error(self, message: str, ex: Exception | None = None) -> Any:
        command = self.prog.replace(" [options]", "")
        raise UserError(f"{message.strip().rstrip('.')}; see `{command} --help`") from ex
