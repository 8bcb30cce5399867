"""Measure `python train.py serve` over loopback and print a table.

python -m benchmarks.serving [--ckpt_path FILE] [--requests 50000]
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lit_imdb
from benchmarks.timing import ROOT

REVIEW = " ".join(["the film was lovely and great but the plot was dull and far too long"] * 7)
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(connection: Connection, body: bytes) -> tuple[int, bytes, bytes]:
    """Status, header and body of the answer."""
    reader, writer = connection
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split()[0])
    return int(head.split()[1]), head, await reader.readexactly(length)


async def clients(port: int, count: int, body: Any, seconds: float) -> str:
    """Requests per second, percentiles and statuses of clients that ask one after the other."""
    answers: list[tuple[int, float]] = []
    sent = json.dumps(body).encode()

    async def client() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            status, *_ = await ask(connection, sent)
            answers.append((status, time.perf_counter() - started))
        connection[1].close()

    end = time.perf_counter() + seconds
    await asyncio.gather(*(client() for _ in range(count)))
    times = sorted(each for status, each in answers if status == 200)
    p50, p99 = (1e3 * times[int(len(times) * share)] for share in (0.5, 0.99))
    statuses = dict(Counter(status for status, _ in answers))
    return f"{len(times) / seconds:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {statuses}"


async def beside_slow_ones(port: int, timeout: int) -> str:
    """A client's times beside 500 half-sent requests and 500 idle connections."""
    slow = []
    for number in range(1000):
        slow.append(await asyncio.open_connection("127.0.0.1", port))
        if number % 2:
            slow[-1][1].write(HEAD + (b"Content-Length: 9\r\n\r\n{" if number % 4 > 1 else b""))
    started = time.perf_counter()
    fast = asyncio.create_task(clients(port, 1, {"text": REVIEW}, timeout))
    ends = await asyncio.gather(*(reader.read() for reader, _ in slow))
    closed = time.perf_counter() - started
    refused = sum(end.startswith(b"HTTP/1.1 408") for end in ends)
    return f"{await fast}; all 1000 closed {closed:.1f} s later, {refused} of them with 408"


async def mixed(port: int, pid: int, count: int, ckpt_path: str) -> str:
    """Memory over many requests of all kinds, each answer compared with `predict`'s."""
    predict = lit_imdb.load(ckpt_path).predict
    texts = ["A lovely film, great!", REVIEW, "", "zebra", "dull " * 50]
    probabilities = [answer.probability for answer in predict(texts)]
    large = "great film " * 95_000
    kinds: list[tuple[bytes, int, Any]] = [
        (b"{", 400, None),
        (b'{"text": 3}', 400, None),
        (json.dumps({"texts": texts}).encode(), 200, probabilities),
        (json.dumps({"texts": []}).encode(), 200, []),
        *(
            (json.dumps({"text": text}).encode(), 200, [value])
            for text, value in zip(texts, probabilities, strict=True)
        ),
    ]
    rare = (json.dumps({"text": large}).encode(), 200, [predict(large)[0].probability])
    memory, wrong, numbers = [], 0, iter(range(count))

    async def client() -> None:
        nonlocal wrong
        connection = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body, expected, values = rare if number % 100 == 0 else kinds[number % len(kinds)]
            status, _, answer = await ask(connection, body)
            found = json.loads(answer)
            if status == 200:
                found = [each["probability"] for each in found.get("predictions", [found])]
            wrong += status != expected or (status == 200 and not same(found, values))
            if number in (1000, count - 1):
                memory.append(resident_mb(pid))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(16)))
    seconds = time.perf_counter() - started
    return f"{wrong} wrong answers, memory {memory[0]:.0f} -> {memory[-1]:.0f} MB, {seconds:.0f} s"


def same(found: list[Any], expected: list[Any]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a == b or (a and b and abs(a - b) < 1e-5) for a, b in pairs)


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def stop(port: int, server: "subprocess.Popen[str]") -> str:
    """What becomes of the requests of 32 clients when the server gets SIGTERM."""
    ends: Counter[str] = Counter()

    async def client() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        head = b""
        while b"connection: close" not in head:
            try:
                status, head, _ = await ask(connection, json.dumps({"text": REVIEW}).encode())
                ends[str(status)] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                ends["lost"] += 1
                return

    running = asyncio.gather(*(client() for _ in range(32)))
    await asyncio.sleep(1)
    server.send_signal(signal.SIGTERM)
    started = time.perf_counter()
    await running
    await asyncio.to_thread(server.wait, 30)
    return f"{dict(ends)}, exit after {time.perf_counter() - started:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=5, help="of each other measurement")
    options = parser.parse_args()
    command = [sys.executable, str(ROOT / "train.py"), "serve", "--port", "0"]
    command += ["--ckpt_path", options.ckpt_path, "--max_connections", "1100"]
    command += ["--timeout", str(options.seconds)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        port = int(server.stdout.readline().split()[0].rsplit(":", 1)[1])
        plain, explained = {"text": REVIEW}, {"text": REVIEW, "explain": True}
        for count, body in ((1, plain), (1, explained), (32, plain), (32, explained), (128, plain)):
            name = f"{count} clients{', explained' if body is explained else ''}"
            show(name, clients(port, count, body, options.seconds))
        show("beside slow ones", beside_slow_ones(port, options.seconds))
        show("mixed", mixed(port, server.pid, options.requests, options.ckpt_path))
        show("SIGTERM", stop(port, server))
    finally:
        server.kill()
        server.wait()


def show(name: str, measurement: Any) -> None:
    load = os.getloadavg()[0]
    print(f"| {name} | {asyncio.run(measurement)} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main()
