"""The JSON endpoint, asked over a real connection."""

import asyncio
import dataclasses
import http.client
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from child import Server, serving
from conftest import ROOT, Fails, Trained, results_of

import lit_imdb

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

JSON = {"Content-Type": "application/json"}
TEXTS = ["A lovely film, great!", "An awful plot, dull and boring.", "", "zebra"]
PAGE = (ROOT / "docs/deploy.md").read_text()
TIMEOUT, CONNECTIONS = 2, 30
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b'Content-Length: 13\r\n\r\n{"text": "a"}'


@pytest.fixture(scope="module")
def server(best: Path) -> Iterator[Server]:
    limits = ("--timeout", str(TIMEOUT), "--max_connections", str(CONNECTIONS))
    with serving(best, *limits) as running:
        yield running


def ask(server: Server, body: Any = None, path: str = "/predict", **others: Any) -> Any:
    """Status, answer and headers; a list or dict goes as JSON, without a body it is a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sent = json.dumps(body) if isinstance(body, dict | list) else body
    request = {"method": "POST" if body else "GET", "headers": JSON, **others}
    connection.request(url=path, body=sent, **request)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    answer = json.loads(content) if content.startswith("{") else content
    return response.status, answer, response.headers


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def test_answers_are_those_of_predict_and_explain(server: Server, best: Path) -> None:
    classifier = lit_imdb.load(best)
    status, together, headers = ask(server, {"texts": TEXTS})
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    for text, one in zip(TEXTS, together["predictions"], strict=True):
        explained = ask(server, {"text": text, "explain": True})[1]
        words = dict(explained.pop("words"))
        assert words == pytest.approx(dict(classifier.explain(text)), abs=1e-5)
        expected = dataclasses.asdict(classifier.predict(text)[0])
        for found in (one, explained, ask(server, {"text": text})[1]):
            assert found == pytest.approx(expected, abs=1e-5)


def test_health_and_page_name_the_model_and_nothing_else_of_the_machine(
    server: Server, trained: Trained
) -> None:
    accuracy, name = results_of(trained.run)["val_acc"], "version_0/checkpoints/best.ckpt"
    assert ask(server, path="/health")[1] == {
        "model": name,
        "source": "corpus.csv",
        "validation_accuracy": pytest.approx(accuracy),
        "version": lit_imdb.__version__,
    }
    _, page, headers = ask(server, path="/")
    assert f"model: {name}, validation accuracy {accuracy:.1%}" in page
    assert not re.search("https?:", page)
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= {*policy}


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (400, {"body": "{"}),
        (400, {"body": "[" * 100_000}),
        (400, {"body": ["a list alone"]}),
        (400, {"body": {"text": 3}}),
        (400, {"body": {"text": "a", "explain": "yes"}}),
        (400, {"body": {"texts": ["a", None]}}),
        (404, {"path": "/nowhere"}),
        (405, {"method": "GET"}),
        (413, {"body": {"texts": ["a"] * 1001}}),
        (415, {"headers": {"Content-Type": "text/plain"}}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_request_is_refused_in_one_line_of_json(
    server: Server, status: int, wrong: dict[str, Any]
) -> None:
    got, answer, _ = ask(server, **{"body": {"text": "a"}, **wrong})
    assert (got, list(answer)) == (status, ["error"])
    assert "\n" not in answer["error"]
    assert ("expected" in answer["error"]) == (status not in (404, 405))


def test_only_this_machines_own_names_are_answered(server: Server) -> None:
    for host, status in (("localhost:1", 200), ("attacker.example", 400)):
        assert ask(server, {"text": "a"}, headers={**JSON, "Host": host})[0] == status


def test_as_much_as_is_allowed_is_answered_and_more_is_not(server: Server) -> None:
    assert len(ask(server, {"texts": ["good"] * 1000})[1]["predictions"]) == 1000
    assert ask(server, {"text": "a " * (2**19 - 20)})[0] == 200
    assert ask(server, {"text": "a " * 2**19})[0] == 413
    with connect(server) as connection:  # a body of unstated length, of which the end never comes
        body = b"%x\r\n%s\r\n" % (2**20 + 1, b"x" * (2**20 + 1))
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413")


def test_whoever_is_slow_is_let_go_and_nobody_else_notices(server: Server) -> None:
    half_a_body = HEAD + b"Content-Length: 13\r\n\r\n{"
    slow = [(connect(server), sent) for sent in (b"", HEAD, half_a_body, WHOLE, WHOLE + HEAD)]
    idle, last = connect(server), WHOLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    for connection, sent in [*slow, (idle, WHOLE)]:
        connection.sendall(sent)
    assert ask(server, {"text": "a"})[0] == 200
    for part in (last[:20], last[20:]):  # its time begins with the first byte
        time.sleep(0.6 * TIMEOUT)
        idle.sendall(part)
    for connection, sent in [*slow, (idle, WHOLE + last)]:
        answer = connection.makefile("rb").read()  # until the server closes it
        assert answer.count(b"HTTP/1.1 200") == sent.count(b"}")
        assert answer.count(b"HTTP/1.1 408") <= 1
        assert answer or sent == b""
        connection.close()


def test_a_connection_too_many_gets_503_and_the_others_their_answers(server: Server) -> None:
    allowed = [connect(server) for _ in range(CONNECTIONS)]
    status, answer, headers = ask(server, {"text": "a"})
    assert (status, list(answer), headers["Retry-After"]) == (503, ["error"], "1")
    allowed[0].sendall(WHOLE)
    assert allowed[0].makefile("rb").readline().startswith(b"HTTP/1.1 200")
    for connection in allowed:
        connection.close()
    assert ask(server, {"text": "a"})[0] == 200


def test_what_waits_is_answered_together_and_what_is_too_much_refused(best: Path) -> None:
    from lit_imdb.inference.batches import Batches

    classifier = lit_imdb.load(best)
    predict, passes = classifier.predict, []
    classifier.predict = lambda texts: passes.append(len(texts)) or predict(texts)
    requests = [[text] * 1000 for text in [*TEXTS, *TEXTS, "one too many"]]

    async def ask_at_once() -> list[Any]:
        batches = Batches(classifier)
        return await asyncio.gather(*map(batches.predict, requests), return_exceptions=True)

    *answers, refusal = asyncio.run(ask_at_once())
    assert passes == [1000, 7000]
    for texts, found in zip(requests[:-1], answers, strict=True):
        assert [one.label for one in found] == [one.label for one in predict(texts)]
    assert (refusal.status_code, refusal.headers) == (503, {"Retry-After": "1"})


def test_sigterm_lets_every_request_be_answered_and_no_review_is_printed(best: Path) -> None:
    answered = threading.Semaphore(0)

    def client(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        closing = False
        while not closing:
            connection.request("POST", "/predict", '{"text": "a secret opinion"}', JSON)
            response = connection.getresponse()
            assert "label" in json.load(response)
            closing = response.getheader("Connection") == "close"
            answered.release()

    with serving(best) as server, ThreadPoolExecutor(8) as pool:
        ask(server, '{"text": "a secret mistake')
        clients = [pool.submit(client, server.port) for _ in range(8)]
        assert all(answered.acquire(timeout=30) for _ in range(9))
        server.child.process.terminate()
        out, err = server.child.stdout.read(), server.child.stderr.read()
        for one in clients:
            one.result()  # raises what the client met, such as a connection that ends unannounced
    assert (server.child.status(), out) == (143, b"")
    assert err == f"{lit_imdb.load(best).origin}\nstopped by SIGTERM\n"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_examples_are_answered_as_the_page_shows(server: Server) -> None:
    examples = re.findall(r"^```sh\n(curl .*?)```\n\n```text\n(.*?)```", PAGE, re.M | re.S)
    assert len(examples) >= 3
    for command, shown in examples:
        here = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("\\\n", " ")
        done = subprocess.run(shlex.split(here), capture_output=True, text=True, check=True)
        assert list(json.loads(done.stdout)) == list(json.loads(shown)), command


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
def test_the_unit_in_the_docs_is_one_that_systemd_reads() -> None:
    (unit,) = re.findall(r"^```ini\n(.*?)```", PAGE, re.M | re.S)
    file = Path("lit-imdb.service")
    file.write_text(unit.replace("/opt/lit-imdb/venv/bin/lit-imdb", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wrong_address_is_one_line(fails: Fails, best: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in fails("serve", "--ckpt_path", best, "--port", port)
    assert "0-65535" in fails("serve", "--ckpt_path", best, "--port", 99999)
    assert "300.1.1.1" in fails("serve", "--ckpt_path", best, "--host", "300.1.1.1")
