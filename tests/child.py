"""The program in a process of its own, forked from this one: all is imported already."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from lit_imdb.main import main


class Child(NamedTuple):
    process: BaseProcess
    stdin: BinaryIO
    stdout: BinaryIO
    stderr: TextIO

    def status(self) -> int | None:
        """The exit status, once the process has ended."""
        self.process.join(60)
        return self.process.exitcode


def start(*args: object) -> Child:
    """Run the command line in a process group of its own, with its standard streams as pipes."""
    pipes = [os.pipe() for _ in range(3)]

    def run() -> None:
        os.setsid()
        for number, pipe in enumerate(pipes):
            os.dup2(pipe[number > 0], number)
        for end in chain(*pipes):
            os.close(end)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "rww"[n]) for n in range(3))
        main([str(arg) for arg in args])

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    for pipe, end in zip(pipes, (0, 1, 1), strict=True):
        os.close(pipe[end])
    (_, stdin), (stdout, _), (stderr, _) = pipes
    return Child(process, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"), os.fdopen(stderr))


class Server(NamedTuple):
    child: Child
    port: int


@contextmanager
def serving(checkpoint: Path, *flags: object) -> Iterator[Server]:
    """Runs `serve` on a free port until the block ends."""
    child = start("serve", "--port", 0, "--ckpt_path", checkpoint, *flags)
    try:
        first = child.stdout.readline().decode()
        assert first.startswith("http://127.0.0.1:"), first
        yield Server(child, int(first.split()[0].rsplit(":", 1)[1]))
    finally:
        child.process.kill()
        child.process.join()
        for stream in child[1:]:
            stream.close()
