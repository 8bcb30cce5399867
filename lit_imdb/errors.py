"""The one error that a user is meant to read."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something that the user can mend: what was wrong, what was expected, what to do instead.

    The command line prints it on one line and exits with status 2. Commands in it are written as
    `python train.py ...`, and shown as the program was started.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()).replace("python train.py", program()))


@contextmanager
def as_user_error(problem: str, *errors: type[Exception], advice: str = "") -> Iterator[None]:
    """Raise `UserError` in place of one of `errors`: the problem, its reason, what to do."""
    try:
        yield
    except BrokenPipeError:  # `predict ... | head` has read enough
        raise
    except errors as error:
        reason = f"{getattr(error, 'strerror', None) or error!s:.200}"
        text = f"{problem} ({reason}): {advice}" if advice else f"{problem}: {reason}"
        raise UserError(text) from error


def program() -> str:
    """Return how this program was started, for hints: `lit-imdb` or `python train.py`."""
    script = Path(sys.argv[0])
    if script.stem == "lit-imdb":
        return "lit-imdb"
    return f"python {shlex.quote(str(script))}" if script.name == "train.py" else "python train.py"
