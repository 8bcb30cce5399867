"""The one error that a user is meant to read."""


class UserError(Exception):
    """Something that the user can mend: what was wrong, what was expected, what to do instead.

    The command line prints it on one line and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
