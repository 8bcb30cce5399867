"""The commands, short flags and aliases; a parser whose errors say what was meant."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from lit_imdb.errors import UserError
from lit_imdb.messages import in_short

SHORT_FLAGS = ("accelerator", "devices", "strategy", "precision", "max_epochs", "fast_dev_run")
COMMANDS = {
    "fit": "Train, test the best checkpoint and print a table. The default command.",
    "validate": "Evaluate a checkpoint, by default the newest best one, on the validation split.",
    "test": "Evaluate a checkpoint, by default the newest best one, on the test split.",
}
WITHOUT_TRAINER = {  # main() runs them without Lightning
    "predict": "Label your own reviews.",
    "export": "Write a trained model as a folder for other programs.",
    "serve": "Serve a web page and a JSON endpoint.",
    "runs": "List the runs.",
}
_OTHER_NAMES = {  # in other programs, of flags and commands
    "epoch": "max_epochs",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "learning_rate": "lr",
    "seed": "seed_everything",
    "gpus": "devices",
    "resume": "ckpt_path",
    "checkpoint": "ckpt_path",
    "t": "text",
    "train": "fit",
    "evaluate": "test",
    "eval": "test",
}

# a default that is a string of an enum, such as Timer's interval, is written as that string
yaml.SafeDumper.add_multi_representer(str, yaml.SafeDumper.represent_str)


def full_arguments(args: list[str]) -> list[str]:
    """Return `args` with the command named and short flags spelled out; idempotent.

    Raises:
        UserError: There is no such command.

    >>> full_arguments(["--accelerator", "cpu", "--max_epochs=2"])
    ['fit', '--trainer.accelerator', 'cpu', '--trainer.max_epochs=2']
    >>> full_arguments(["test", "--devices", "1"])
    ['test', '--trainer.devices', '1']
    >>> full_arguments(["--fast_dev_run"])
    ['fit', '--trainer.fast_dev_run=true']
    """
    if not args or args[0].startswith("-"):
        args = ["fit", *args]
    if args[0] not in COMMANDS:
        known = [*COMMANDS, *WITHOUT_TRAINER]
        near = nearest(args[0], known)
        meant = f"; did you mean {near}?" if near else ""
        raise UserError(f"no command {args[0]!r}: expected one of {', '.join(known)}{meant}")
    followers = [*args[1:], "--"]
    return [_spell_out(argument, next_) for argument, next_ in zip(args, followers, strict=True)]


def _spell_out(argument: str, follower: str) -> str:
    if argument == "--fast_dev_run" and follower.startswith("--"):
        argument += "=true"
    name, equals, value = argument.partition("=")
    if name.startswith("--") and name[2:] in SHORT_FLAGS:
        return f"--trainer.{name[2:]}{equals}{value}"
    return argument


def nearest(typed: str, known: Iterable[str]) -> str:
    """Return the name in `known` that was meant, or "": only its last part counts.

    >>> nearest("--batch-size", ["data.batch_size", "model.lr"])
    'data.batch_size'
    >>> nearest("--trainer.epochs", ["trainer.max_epochs", "trainer.max_steps"])
    'trainer.max_epochs'
    """
    last = typed.lstrip("-").replace("-", "_").rpartition(".")[2].lower()
    names = {name.rpartition(".")[2]: name for name in known}
    found = difflib.get_close_matches(_OTHER_NAMES.get(last, last), names, 1)
    return names[found[0]] if found else ""


class Parser(ArgumentParser):
    """Raises `UserError` instead of printing a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would take the misspelt --model.hidden for --model.hidden_dim.
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.files: list[str] = []  # of --config

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a --config file; errors name the file."""
        self.files.append(str(cfg_path))
        try:
            return super().parse_path(cfg_path, *args, **kwargs)
        except UserError as error:
            raise UserError(f"--config {cfg_path}: {error}") from error

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the configuration as text that can be parsed again.

        jsonargparse puts these words before a string or device that may also be a function or an
        object, such as the `device` of StochasticWeightAveraging.
        """
        return super().dump(*args, **kwargs).replace("Unable to serialize instance ", "")

    def error(self, message: str, ex: Exception | None = None) -> Any:
        words = getattr(ex, "subcommand_parser", self).in_words(message)
        if not self.exit_on_error:  # the parser of a class: the one around it names its flag
            super().error(words, ex)
        raise UserError(words) from ex

    def in_words(self, message: str) -> str:
        """Return a parsing error in words, with the name that was meant."""
        found = re.search(r"(unrecognized arguments:|accept option|Option) '?([^\s'=]+)", message)
        if not found:
            return in_short(message)
        problem, name = found.groups()
        if name in (*COMMANDS, *WITHOUT_TRAINER):
            return f"the command comes first: python train.py {name} ..."
        known = [key.replace(".init_args.", ".") for key in vars(self.get_defaults().as_flat())]
        near = nearest(name, known)
        dashes, advice = "--", f"`python train.py {self.prog.rpartition(' ')[2]} --help` lists all"
        if problem == "accept option":  # a config file's
            file = f"--config {' or '.join(self.files)}: " if self.files else ""
            unknown, dashes = f"{file}no setting {name}", ""
        elif problem == "Option":  # a class's
            unknown, advice = f"no flag --{name}", "--help CLASS lists all"
        else:
            unknown = f"no flag {name}"
            near = near.removeprefix("trainer.") if near[8:] in SHORT_FLAGS else near
        return unknown + (f": did you mean {dashes}{near}?" if near else f"; {advice}")
