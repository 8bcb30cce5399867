"""Shorten other libraries' warnings to one line and silence the expected ones."""

import logging
import sys
import warnings
from typing import Any

_EXPECTED = (
    "LeafSpec",  # Lightning 2.6 under torch 2.13
    "callbacks used to create the checkpoint",  # test and predict need no callback of fit
    "Checkpoint directory .* exists and is not empty",  # a resumed run's own
    "dirpath has changed",  # the run folder was moved, or its checkpoint taken out of it
    "Unable to serialize instance",  # mended by Parser.dump
    "smaller than the logging interval",  # short runs log their epochs
)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def keep_messages_short() -> None:
    """Print warnings as one line on standard error, without the expected ones."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("ignore", DeprecationWarning)  # between libraries, not for users
    for text in _EXPECTED:
        warnings.filterwarnings("ignore", f"(?s).*{text}")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for asked_for in ("profilers", "callbacks.early_stopping"):
        logging.getLogger(f"pytorch_lightning.{asked_for}").setLevel(logging.INFO)
