"""The web application: GET / is the page, POST /predict and GET /health are for programs."""

import html
import json
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lit_imdb.inference.batches import Batches
from lit_imdb.inference.classifier import SentimentClassifier

MAX_BYTES = 2**20  # of a request's body
MAX_TEXTS = 1000
_EXPECTED = 'expected {"text": "...", "explain": true or false} or {"texts": ["...", ...]}'


def make_app(classifier: SentimentClassifier, names: list[str]) -> Starlette:
    """Build the application.

    Args:
        classifier: What answers.
        names: Host names that requests may use for this server; `*` is any.
    """
    batches = Batches(classifier)
    page = files("lit_imdb.inference").joinpath("page.html").read_text("utf-8")
    # of both paths only the end: the whole may tell of the machine
    path = Path(*classifier.origin.path.parts[-3:])
    origin = replace(classifier.origin, path=path)
    page = page.replace("{{model}}", html.escape(str(origin)))
    health = {
        "model": path.as_posix(),
        "source": Path(origin.source).name,
        "validation_accuracy": origin.accuracy,
        "version": version("lit-imdb"),
    }

    async def predict(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0]
        if content_type != "application/json":  # a form on another site cannot send this type
            raise HTTPException(415, "expected Content-Type: application/json")
        return _json(await _respond(batches, await request.body()))

    return Starlette(
        routes=[
            Route("/", HTMLResponse(page), methods=["GET"]),
            Mount("/static", StaticFiles(packages=[("lit_imdb.inference", "static")])),
            Route("/health", _json(health), methods=["GET"]),
            Route("/predict", predict, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)],
        exception_handlers={HTTPException: _refuse},
        max_body_size=MAX_BYTES,
    )


async def _respond(batches: Batches, body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"the body is no JSON: {_EXPECTED}") from None
    match request:
        case {"text": str(text), **others} if others in ({}, {"explain": True}, {"explain": False}):
            (answer,) = await batches.predict([text])
            words = {"words": await batches.explain(text)} if others.get("explain") else {}
            return {**asdict(answer), **words}
        case {"texts": [*texts], **others} if not others:
            if len(texts) > MAX_TEXTS:
                raise HTTPException(413, f"{len(texts):,} texts: expected at most {MAX_TEXTS:,}")
            if all(isinstance(text, str) for text in texts):
                answers = await batches.predict(texts)
                return {"predictions": [asdict(answer) for answer in answers]}
    raise HTTPException(400, _EXPECTED)


async def _refuse(request: Request, error: Any) -> Response:
    return _json({"error": error.detail}, error.status_code, error.headers)


def _json(content: Any, status: int = 200, headers: Any = None) -> Response:
    # Not starlette's JSONResponse: it cannot send half a surrogate pair, which JSON may bring.
    return Response(json.dumps(content) + "\n", status, headers, "application/json")
