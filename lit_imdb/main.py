"""The entry: runs one command; errors are one line."""

import argparse
import ctypes
import gc
import os
import shlex
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version

import lit_imdb.clock  # noqa: F401 - before the slow imports
from lit_imdb.arguments import WITHOUT_TRAINER, Parser, full_arguments
from lit_imdb.errors import UserError, program
from lit_imdb.help import print_overview, print_page
from lit_imdb.interrupts import Interrupted, stop_on_signals
from lit_imdb.messages import mistake

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def main(args: list[str] | None = None) -> None:
    """Run one command; a user's error is one line on standard error, with exit status 2."""
    args = sys.argv[1:] if args is None else args
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    stop_on_signals()
    Interrupted.checkpoint = None
    sys.path.append(os.getcwd())  # --model my_module.MyModel
    try:
        _run(args)
    except Interrupted as interrupted:
        path = interrupted.checkpoint
        again = f"; resume training with `{_again(args, path)}`" if path else ""
        print(f"stopped by {interrupted.name}{again}", file=sys.stderr)
        raise SystemExit(128 + interrupted.signum) from None
    except BrokenPipeError:  # `predict | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python flushes to at exit
        raise SystemExit(128 + 13) from None
    except Exception as error:
        _stop(error)


def _run(args: list[str]) -> None:
    command = args[0] if args else ""
    asks_help = not {"-h", "--help"}.isdisjoint(args)
    if command == "--version":
        print(f"lit-imdb {version('lit-imdb')}")
    elif command in ("-h", "--help"):
        print_overview()
    elif command in WITHOUT_TRAINER:
        _run_alone(command, args[1:])
    elif asks_help and args[-1] != "all":
        print_page(full_arguments(args)[0])
    else:
        args = full_arguments(args)
        ranks = {os.environ.get(name, "0") for name in ("LOCAL_RANK", "SLURM_LOCALID")}
        if ranks == {"0"}:  # the first process of this machine
            print("loading PyTorch and Lightning", file=sys.stderr, flush=True)
        gc.disable()  # importing torch and Lightning makes a million objects that stay
        from lit_imdb.cli import run

        gc.freeze()
        gc.enable()
        _keep_freed_memory()
        run(args)
        gc.freeze()  # the system takes all memory back: Python need not search it for cycles


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed: each training step asks for the same 16 MB again."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # other C libraries have no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc accepts
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _again(args: list[str], checkpoint: str) -> str:
    """Return the command that resumes the one that was stopped, with its flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--ckpt_path")
    _, others = parser.parse_known_args(full_arguments(args))
    return f"{program()} {shlex.join([*others, '--ckpt_path', checkpoint])}"


def _run_alone(command: str, args: list[str]) -> None:
    """Run `lit_imdb.inference.COMMAND.COMMAND` with what its signature makes of the arguments."""
    function = getattr(import_module(f"lit_imdb.inference.{command}"), command)
    prog = f"{os.path.basename(sys.argv[0])} {command}"
    parser = Parser(prog=prog)
    if command == "predict":  # a signature cannot say these two
        files = "A .csv, .tsv, .jsonl, .parquet or .txt file, a folder of .txt files, or -."
        parser.add_argument("file", type=str, nargs="?", metavar="FILE", help=files)
        text = "A review to label, instead of a file; may be repeated."
        parser.add_argument("--text", type=str, action="append", metavar="TEXT", help=text)
    parser.add_function_arguments(function, as_positional=False, skip={"file", "text"})
    # `runs --json` takes no value
    args = ["--json=true" if arg == "--json" else arg for arg in args]
    function(**vars(parser.parse_args(args)))


def _stop(error: Exception) -> None:
    """Print an error on one line; end with status 2 if the user can mend it, else with 1."""
    if os.environ.get("LIT_IMDB_DEBUG") == "1":
        raise error
    message = str(error) if isinstance(error, UserError) else mistake(error)
    status = 2 if message else 1
    message = message or f"{type(error).__name__}: {error} (LIT_IMDB_DEBUG=1 shows where)"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status) from None
