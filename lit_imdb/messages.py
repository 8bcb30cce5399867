"""What other libraries print: their mistakes on one line each, their habits not at all."""

import logging
import sys
import warnings
from typing import Any

_EXPECTED = (
    "LeafSpec",  # Lightning 2.6 under torch 2.13
    "callbacks used to create the checkpoint",  # test and predict need no callback of fit
    "Checkpoint directory .* exists and is not empty",  # a resumed run's own
    "dirpath has changed",  # the run folder was moved, or its checkpoint taken out of it
    "smaller than the logging interval",  # short runs log their epochs
)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def keep_messages_short() -> None:
    """Warnings become one line on standard error; what is expected is not said."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("ignore", DeprecationWarning)  # between libraries, not for users
    for text in _EXPECTED:
        warnings.filterwarnings("ignore", f".*{text}")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for asked_for in ("profilers", "callbacks.early_stopping"):
        logging.getLogger(f"pytorch_lightning.{asked_for}").setLevel(logging.INFO)
