"""An argument parser with one line for each mistake."""

from typing import Any

from jsonargparse import ArgumentParser

from lit_imdb.errors import UserError


class Parser(ArgumentParser):
    """Raises its complaints as `UserError` instead of printing a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Abbreviations would take the misspelt --model.hidden for --model.hidden_dim.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parses a --config file; its complaints name the file."""
        try:
            return super().parse_path(cfg_path, *args, **kwargs)
        except UserError as error:
            raise UserError(f"--config {cfg_path}: {error}") from error

    def error(self, message: str, ex: Exception | None = None) -> Any:
        command = self.prog.replace(" [options]", "")
        raise UserError(f"{message.strip().rstrip('.')}; see `{command} --help`") from ex
