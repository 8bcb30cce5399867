"""What people may leave out or shorten on the command line."""

SHORT_FLAGS = ("accelerator", "devices", "strategy", "precision", "max_epochs", "fast_dev_run")
COMMANDS = {
    "fit": "Train, test the best checkpoint, print a table; what no command means.",
    "validate": "Evaluate a checkpoint, the newest best one by default, on the validation part.",
    "test": "Evaluate a checkpoint, the newest best one by default, on the test part.",
}
ALONE = ("predict", "export", "serve")  # these need no Trainer: main() runs them without Lightning
_HELP = ("-h", "--help")


def full_arguments(args: list[str]) -> list[str]:
    """`args` with the sub-command named and short flags spelled out; applying it twice is the same.

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
