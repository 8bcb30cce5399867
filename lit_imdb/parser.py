"""An argument parser with one-line errors."""

from typing import Any

from jsonargparse import ArgumentParser

from lit_imdb.errors import UserError


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
