"""HTTP/1.1 as uvicorn speaks it, with limits on slow clients and on connections."""

import asyncio

import h11
from starlette.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

_STOPPING_SECONDS = 1  # for requests that are on their way when the server stops
_CLOSE = (b"connection", b"close")
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_MANY = JSONResponse(
    {"error": "too many connections"}, 503, {"Retry-After": "1", "Connection": "close"}
)


class LimitedProtocol(H11Protocol):
    """One connection.

    uvicorn closes it when it is idle between two requests for `timeout_keep_alive` seconds. Here a
    request must also have come in whole in as many, from its first byte on or, the first request,
    from connecting. Connections beyond `limit_concurrency` get 503; uvicorn's would be for all.
    """

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency and len(self.connections) > self.limit_concurrency:
            self.app = _TOO_MANY
        self.limit_concurrency = None
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task:  # idle until now
            self._start_clock()
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._start_clock()  # the next request may have begun already

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_clock()

    def shutdown(self) -> None:
        """Answer what is on its way, saying that the connection ends, then close it."""
        headers = self.server_state.default_headers  # shared with requests in work
        if _CLOSE not in headers:
            headers.append(_CLOSE)
        self.loop.call_later(_STOPPING_SECONDS, super().shutdown)

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()

    def _start_clock(self) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(self.timeout_keep_alive, self._time_is_up)

    def _time_is_up(self) -> None:
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if incomplete or self.transport.is_closing():  # or the client does not read its answer
            self.transport.write(_TOO_SLOW)
            self.transport.abort()
