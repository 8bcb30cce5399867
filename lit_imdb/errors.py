"""The one error that a user is meant to read."""

import shlex
import sys
from pathlib import Path


class UserError(Exception):
    """Something that the user can mend: what was wrong, what was expected, what to do instead.

    The command line prints it on one line and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def program() -> str:
    """Return how this program was started, for hints: `lit-imdb` or `python train.py`."""
    script = Path(sys.argv[0])
    if script.stem == "lit-imdb":
        return "lit-imdb"
    return f"python {shlex.quote(str(script))}" if script.name == "train.py" else "python train.py"
