"""`--help`: this program's own flags. `--help all` is the parser's page, with Lightning's too."""

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping

from docstring_parser import parse

from lit_imdb.arguments import ALONE, COMMANDS
from lit_imdb.errors import program

RUN_FLAGS = {
    "--ckpt_path": "resume or evaluate: `best`, `last` or a file",
    "--config FILE": "settings from a YAML file; flags win",
    "--print_config": "print all settings as YAML and stop",
    "--seed_everything": "of weights, batches and dropout",
    "--max_epochs": "epochs to train",
    "--accelerator": "cpu, gpu or auto",
    "--devices, --strategy, --precision": "see docs/scaling.md",
    "--fast_dev_run": "try every part on a few batches and keep nothing",
    "--model, --data CLASS": "of your own: see docs/extending.md",
    "--optimizer, --lr_scheduler": "torch's, such as AdamW and OneCycleLR",
    "--trainer.default_root_dir": "the folder in which logs/ is written",
    "--report": "write report.html and TensorBoard's plots",
    "--checkpoint_every_n_steps": "write last.ckpt this often in an epoch",
}


def overview() -> str:
    """Return the page of the program: its commands."""
    return "\n".join(
        [
            f"usage: {program()} [--version] [COMMAND] [--FLAG VALUE ...]",
            "\nIMDB sentiment with a recurrent network, unrolled by hand.\n",
            *_lines({**COMMANDS, **ALONE}, 10),
            f"\nEach has its own --help, the default command `{program()} fit --help`.",
        ]
    )


def page(command: str) -> str:
    """Return the page of fit, validate or test: own flags, then the names of Lightning's."""
    from pytorch_lightning import Trainer

    from lit_imdb.data.datamodule import ImdbDataModule
    from lit_imdb.model.module import LitSentiment
    from lit_imdb.model.network import SentimentRNN

    data = dict(_parameters("data", ImdbDataModule))
    model = dict([*_parameters("model", LitSentiment), *_parameters("model", SentimentRNN)])
    del model["--model.vocab_size"]  # follows the data's
    return "\n".join(
        [
            f"usage: {program()} {command} [--FLAG VALUE ...]",
            *_wrap("", COMMANDS[command]),
            "run:",
            *_lines(RUN_FLAGS, 27),
            "model:",
            *_lines(model, 21),
            "data:",
            *_lines(data, 21),
            "Lightning's Trainer, --trainer.NAME, described by --help all:",
            *_wrap("  ", ", ".join(inspect.signature(Trainer).parameters)),
        ]
    )


def _parameters(group: str, cls: type) -> Iterator[tuple[str, str]]:
    """Yield the flag of each parameter of a class, with its description and default."""
    described = {p.arg_name: p.description for p in parse(cls.__doc__ or "").params}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            text = " ".join((described.get(name) or "").split()).partition(". ")[0].rstrip(".")
            default = "" if parameter.default is None else f" [{parameter.default}]"
            yield f"--{group}.{name}", text + default


def _lines(rows: Mapping[str, str], width: int) -> list[str]:
    return [line for name, text in rows.items() for line in _wrap(f"  {name:<{width}}  ", text)]


def _wrap(start: str, text: str) -> list[str]:
    columns = min(shutil.get_terminal_size(fallback=(100, 40)).columns, 100)
    return textwrap.wrap(text, columns, initial_indent=start, subsequent_indent=" " * len(start))
