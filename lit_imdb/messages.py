"""Shorten what other libraries print: errors, warnings and log lines."""

import ast
import difflib
import logging
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

_EXPECTED = (
    "LeafSpec",  # Lightning 2.6 under torch 2.13
    "callbacks used to create the checkpoint",  # test and predict need no callback of fit
    "Checkpoint directory .* exists and is not empty",  # a resumed run's own
    "dirpath has changed",  # the run folder was moved, or its checkpoint taken out of it
    "Unable to serialize instance",  # mended by Parser.dump
    "requested to overfit but enabled",  # loaders keep their order then
    "smaller than the logging interval",  # short runs log their epochs
    "monitor='val/acc'.* could not find",  # short runs may have no validation
    "hooks will not be called on every batch",  # of accumulated ones, as is right
    "self.log.*barebones=True",  # which asks for that
)
# what speaks only where the user has put it into the trainer
_ASKED_FOR = {"callbacks", "tuner", "profilers"}
# whose errors mean that a setting was wrong; torch.optim checks its numbers, modules their weights
_CHECKERS = r"(jsonargparse|(pytorch_)?lightning(_fabric)?|torch\.(optim|nn\.modules\.module))\."
_BUGS = (AttributeError, LookupError, AssertionError, ArithmeticError)
_RULES = (
    (r"Requirement '(([\w.-]+)[^']*)' not met", r"the package \2 is missing: pip install '\1'"),
    ("loading state_dict for", "another network's weights: give the --model of the checkpoint"),
    (
        r"No supported (gpu)|`?(\w+?)(?:Accelerator)?`? can not run on your system",
        r"--accelerator \1\2: this machine has none; use --accelerator cpu",
    ),
    (r"No module named '([\w.]+)", r"no module \1: expected an installed package or a file here"),
    (r"arguments are required: (\w+)", r"--\1 is required"),
    (r"Not of type \w+: (\S+) does not .* v>(\S+)", r"expected a number above \2, not \1"),
)
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true,false", "str": "a text"}
_NOT_TYPED = ("NoneType", "list", "Iterable")  # beside what one would type


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


class _Log(logging.Handler):
    """Prints warnings, and what callbacks, tuners and profilers report."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO or Path(record.pathname).parent.name in _ASKED_FOR:
            print(record.getMessage().strip(), file=sys.stderr)


def keep_messages_short() -> None:
    """Print warnings on one line on standard error, and of Lightning's log what was asked for."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("ignore", DeprecationWarning)  # between libraries, not for users
    for text in _EXPECTED:
        warnings.filterwarnings("ignore", f"(?s).*{text}")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning").handlers = [_Log()]


def show_why_it_stopped(trainer: Any) -> None:
    """Print what EarlyStopping found, which it does itself only with `verbose`."""
    for callback in trainer.early_stopping_callbacks:
        if callback.stopping_reason_message and not callback.verbose:
            print(callback.stopping_reason_message, file=sys.stderr)


def mistake(error: Exception) -> str | None:
    """Return what was wrong in a setting if that is why `error` was raised; None if it is a bug."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    checked = re.match(_CHECKERS, f"{frame.f_globals['__name__']}.")
    if isinstance(error, ImportError) or (checked and not isinstance(error, _BUGS)):
        return in_short(str(error))
    return None


def in_short(message: str) -> str:
    """Return a complaint of jsonargparse or Lightning in one sentence, without Python's types.

    >>> in_short('Parser key "model.lr": Expected a <class \\'float\\'>. Got value: abc')
    '--model.lr abc: expected a number'
    """
    text = re.sub(r"<([\w.]+) object at \w+>", r"\1", " ".join(message.split()))
    key = re.search(r'Parser key "([^"]+)"', text)
    flag = f"--{key[1]}" if key else ""
    start = f"{flag}: " if key else ""
    if found := re.search(r"Expected a dot import path string: ([\w.]+)", text):
        near = difflib.get_close_matches(found[1], _class_names(), 1)
        hint = f"did you mean {near[0]}?" if near else "expected a class such as my_module.Mine"
        return f"{start}no class {found[1]}: {hint}"
    for pattern, words in _RULES:
        if found := re.search(pattern, text):
            return start + found.expand(words)
    for reason in text.partition("Errors: - ")[2].split(" - "):
        if inner := re.search("Problem with given class_path '.*?': (.*--.*)", reason):
            return inner[1].replace("--", f"{flag}.")  # words of the class's own parser
        if reason and not reason.startswith("Expected a "):
            return start + reason
    value = re.search(r"(?:Got|Given) value: (.*?)(?= - |$)", text)
    if value and (expected := _alternatives(text)):
        return f"{flag} {value[1]}: expected {expected}"
    return re.sub(r'Parser key "([^"]+)"', r"--\1", text)


def _alternatives(text: str) -> str:
    """Return the types that jsonargparse expected, in words."""
    words: list[str] = []
    pattern = r"Expected a (?:typing\.Literal(\[.*?\])|<class '(?:\w+\.)*(\w+)'>)"
    for literal, name in re.findall(pattern, text):
        if literal:
            words += map(str, ast.literal_eval(literal))
        elif name not in _NOT_TYPED:
            words += _TYPES.get(name, name).split(",")
    if "a number" in words:
        words = [word for word in words if word != "a whole number"]
    *most, last = dict.fromkeys(words) or [""]
    return f"{', '.join(most)} or {last}" if most else last


def _class_names() -> list[str]:
    """Return the names of classes that are typed without their module."""
    shelves = ("pytorch_lightning.callbacks", "pytorch_lightning.loggers", "torch.optim")
    return [name for s in shelves for name in dir(sys.modules.get(s)) if name[0].isupper()]
