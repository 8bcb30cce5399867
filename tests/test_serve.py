"""The JSON endpoint, asked over a real connection."""

import dataclasses
import http.client
import json
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Trained, results_of
from serving import Server, serving

import lit_imdb

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

JSON = {"Content-Type": "application/json"}
TEXTS = ["A lovely film, great!", "An awful plot, dull and boring.", "", "zebra"]


@pytest.fixture(scope="module")
def server(trained: Trained) -> Iterator[Server]:
    with serving(trained.run / "checkpoints/best.ckpt") as running:
        yield running


def ask(
    server: Server,
    body: Any = None,
    method: str = "POST",
    path: str = "/predict",
    headers: dict[str, str] = JSON,
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Status, answer and headers; a body that is not a string or bytes goes as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    if isinstance(body, dict | list):
        body = json.dumps(body)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(content) if is_json else content, response.headers


def test_answers_are_those_of_predict_and_explain(server: Server, trained: Trained) -> None:
    classifier = lit_imdb.load(trained.run / "checkpoints/best.ckpt")
    expected = [dataclasses.asdict(answer) for answer in classifier.predict(TEXTS)]
    status, answer, headers = ask(server, {"texts": TEXTS})
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert len(answer["predictions"]) == len(TEXTS)
    for got, one in zip(answer["predictions"], expected, strict=True):
        assert got == pytest.approx(one, abs=1e-5)
    for text, one in zip(TEXTS, expected, strict=True):
        status, answer, _ = ask(server, {"text": text})
        words = answer.pop("words")
        assert (status, answer) == (200, pytest.approx(one, abs=1e-5))
        explained = classifier.explain(text)
        assert [word for word, _ in words] == [word for word, _ in explained]
        assert [value for _, value in words] == pytest.approx([v for _, v in explained], abs=1e-5)


def test_page_names_the_model_and_may_run_its_own_script_only(
    server: Server, trained: Trained
) -> None:
    status, page, headers = ask(server, method="GET", path="/", headers={})
    accuracy = f"validation accuracy {100 * results_of(trained.run)['val_acc']:.1f} %"
    assert status == 200
    assert f"version_0/checkpoints/best.ckpt, {accuracy}" in page
    assert str(trained.folder) not in page, "it may tell of the machine"
    assert not re.search("https?:", page)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[" * 100_000, 400),
        (["a list alone"], 400),
        ({"text": 3}, 400),
        ({"texts": ["a", None]}, 400),
        ({"texts": ["a"] * 1001}, 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_mistake_is_one_line_of_json(server: Server, body: Any, status: int) -> None:
    got, answer, _ = ask(server, body)
    assert got == status
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]
    assert "expected" in answer["error"]


def test_as_much_as_is_allowed_is_answered_and_more_is_not(server: Server) -> None:
    assert len(ask(server, {"texts": ["good"] * 1000})[1]["predictions"]) == 1000
    allowed = json.dumps({"text": "a " * (2**19 - 20)})
    assert ask(server, allowed)[0] == 200


def test_too_large_a_body_of_unstated_length_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        size = 2**20 + 1
        chunk = f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{'x' * size}\r\n"
        connection.sendall(chunk.encode())  # and the last chunk, which would end it, never comes
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/predict", JSON, 405),
        ("GET", "/nowhere", JSON, 404),
        ("POST", "/predict", {"Content-Type": "text/plain"}, 415),
    ],
)
def test_wrong_method_path_and_type_are_named(
    server: Server, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    got, answer, _ = ask(server, '{"text": "a"}', method, path, headers)
    assert got == status
    assert list(answer) == ["error"]


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("attacker.example", 400)])
def test_only_this_machines_names_are_answered(server: Server, host: str, status: int) -> None:
    assert ask(server, {"text": "a"}, headers={**JSON, "Host": host})[0] == status


def test_many_at_once_get_their_own_answers(server: Server) -> None:
    alone = [ask(server, {"text": text})[1]["label"] for text in TEXTS] * 6
    with ThreadPoolExecutor(24) as pool:
        answers = pool.map(lambda text: ask(server, {"text": text})[1]["label"], TEXTS * 6)
        assert list(answers) == alone


def test_no_review_is_printed_and_ctrl_c_ends_in_one_line(trained: Trained) -> None:
    best = trained.run / "checkpoints/best.ckpt"
    with serving(best) as server:
        ask(server, {"text": "a secret opinion"})
        ask(server, '{"text": "a secret mistake')
        server.process.send_signal(signal.SIGINT)
        out, err = server.process.communicate(timeout=20)
    assert (server.process.returncode, out) == (130, "")
    accuracy = f"validation accuracy {100 * results_of(trained.run)['val_acc']:.1f} %"
    assert err == f"model: {best}, {accuracy}\nstopped by Ctrl-C\n"


def test_wrong_address_is_one_line(fails: Callable[..., str], trained: Trained) -> None:
    best = trained.run / "checkpoints/best.ckpt"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in fails("serve", "--ckpt_path", best, "--port", port)
    assert "0-65535" in fails("serve", "--ckpt_path", best, "--port", 99999)
    assert "300.1.1.1" in fails("serve", "--ckpt_path", best, "--host", "300.1.1.1")


def test_missing_package_is_one_line_that_says_what_to_install(
    fails: Callable[..., str], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    line = fails("serve", "--ckpt_path", trained.run / "checkpoints/best.ckpt")
    assert "uvicorn is missing: pip install starlette uvicorn" in line
