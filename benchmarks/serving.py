"""Measure `python train.py serve` over loopback and print a table.

python -m benchmarks.serving [--ckpt_path FILE] [--requests 50000] [--seconds 5]
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from typing import Any

import lit_imdb
from benchmarks.timing import ROOT, memory_mb, start

REVIEW = " ".join(["the film was lovely and great but the plot was dull and far too long"] * 7)
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(connection: Connection, body: Any) -> tuple[int, Any]:
    """Status and content of an answer."""
    reader, writer = connection
    sent = json.dumps(body).encode()
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(sent), sent))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split()[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def clients(port: int, count: int, explain: bool, seconds: int) -> str:
    """Rate, percentiles and statuses of clients that each ask one request after the other."""
    times, statuses = [], Counter[int]()
    end = time.perf_counter() + seconds

    async def client() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            status, _ = await ask(connection, {"text": REVIEW, "explain": explain})
            times.append(1e3 * (time.perf_counter() - started))
            statuses[status] += 1
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(count)))
    percentiles = quantiles(times, n=100)
    p50, p99 = percentiles[49], percentiles[98]
    return f"{len(times) / seconds:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {dict(statuses)}"


async def mixed(port: int, pid: int, count: int, ckpt_path: str) -> str:
    """Memory over many requests of all kinds, each answer compared with `predict`'s."""
    texts = ["A lovely film, great!", REVIEW, "", "zebra", "dull " * 50] * 20
    texts.append("great film " * 95_000)
    answers = lit_imdb.load(ckpt_path).predict(texts)
    kinds: list[Any] = [
        (3, 400, None),
        *((text, 200, answer.probability) for text, answer in zip(texts, answers, strict=True)),
    ]
    numbers, wrong, before = iter(range(count)), 0, memory_mb(pid, "VmRSS")

    async def client() -> None:
        nonlocal wrong
        connection = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            text, expected, probability = kinds[number % len(kinds)]
            status, content = await ask(connection, {"text": text})
            found = content.get("probability")
            wrong += status != expected or abs((found or 0) - (probability or 0)) > 1e-5
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(16)))
    return f"{wrong} wrong answers, memory {before:.0f} -> {memory_mb(pid, 'VmRSS'):.0f} MB"


async def measure(server: Any, ckpt_path: str, requests: int, seconds: int) -> None:
    port = int(server.stdout.readline().split()[0].rsplit(":", 1)[1])
    for count, explain in ((1, False), (1, True), (32, False), (32, True), (128, False)):
        found = await clients(port, count, explain, seconds)
        print(f"| {count} clients{', explained' * explain} | {found} |", flush=True)
    print(f"| {requests:,} mixed requests | {await mixed(port, server.pid, requests, ckpt_path)} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--requests", type=int, default=50_000, help="mixed ones")
    parser.add_argument("--seconds", type=int, default=5, help="of each other measurement")
    options = parser.parse_args()
    serve = [sys.executable, str(ROOT / "train.py"), "serve", "--port", "0"]
    server = start([*serve, "--ckpt_path", options.ckpt_path], Path.cwd())
    try:
        asyncio.run(measure(server, **vars(options)))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
