"""What people may leave out or shorten on the command line."""

SHORT_FLAGS = ("accelerator", "devices", "strategy", "precision", "max_epochs", "fast_dev_run")
COMMANDS = ("fit", "validate", "test", "predict")
ALONE = ("export", "serve")  # these need no Trainer: main() runs them without Lightning
_HELP = ("-h", "--help")


def full_arguments(args: list[str]) -> list[str]:
    """`args` with the sub-command named and short flags spelled out; applying it twice is the same.

    >>> full_arguments(["--accelerator", "cpu", "--max_epochs=2"])
    ['fit', '--trainer.accelerator', 'cpu', '--trainer.max_epochs=2']
    >>> full_arguments(["test", "--devices", "1"])
    ['test', '--trainer.devices', '1']
    """
    if not args or args[0] not in (*COMMANDS, *_HELP):
        args = ["fit", *args]
    return [_spell_out(argument) for argument in args]


def _spell_out(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if name.startswith("--") and name[2:] in SHORT_FLAGS:
        return f"--trainer.{name[2:]}{equals}{value}"
    return argument
