"""The sandbox as an ASGI application on Starlette.

Routes: ``/v1/chat/completions``, ``/v1/responses``, ``/v1/embeddings``, ``/v1/models`` (OpenAI);
``/v1/messages``, ``/v1/messages/count_tokens``, ``/v1/models`` with ``anthropic-version``
(Anthropic); ``/health``, ``/sandbox/calls``, ``/sandbox/faults`` (ours). The endpoints are plain
ASGI: a request costs a tenth of a millisecond, and some faults end a connection in ways that no
response object knows.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from zerorouter.errors import InputError, UnknownNameError, ZeroRouterError, require_extra
from zerorouter.sandbox import anthropic_wire, openai_wire, responses_wire
from zerorouter.sandbox.answering import NO_CACHE, Sandbox, Subject
from zerorouter.sandbox.caching import PromptCache
from zerorouter.sandbox.calls import Call, CallLog
from zerorouter.sandbox.draws import digest
from zerorouter.sandbox.faults import FaultBox, Trouble
from zerorouter.sandbox.line import ClientLeft, Headers, Line, Receive, Scope, Send, Stopper
from zerorouter.sandbox.plan import Ask, Plan, spoiled
from zerorouter.sandbox.playing import (
    FAULT_TEXT,
    JSON,
    header_bytes,
    play_nothing,
    play_stream,
    play_whole,
)
from zerorouter.sandbox.requests import RequestError
from zerorouter.sandbox.settings import SandboxSettings, rules_of
from zerorouter.sandbox.wire import Failure, Identity, Wire

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

FAULT_HEADER: Final = b"x-sandbox-fault"
SAMPLE_HEADER: Final = b"x-sandbox-sample"
DISCARD_TIMEOUT_S: Final = 5.0
DISCARD_FACTOR: Final = 8
_EPOCH: Final = "1970-01-01"


def create_app(
    settings: SandboxSettings | None = None, *, sandbox: Sandbox | None = None
) -> Starlette:
    """The application.

    Args:
        settings: What it is told; the defaults if None.
        sandbox: A sandbox from parts, in place of the one that the settings make.

    Raises:
        MissingExtraError: Starlette or orjson is not installed.
        DataError: A data folder is wrong.
    """
    for module in ("starlette", "orjson"):
        require_extra(module, "gateway", "The sandbox's server")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    if sandbox is None:
        sandbox = Sandbox.load(SandboxSettings() if settings is None else settings)
    service = Service(sandbox)

    async def not_found(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = f"{request.method} {request.url.path}: {error.detail}"
        failure = Failure(status=error.status_code, message=told, request_id="")
        return JSONResponse(openai_wire.error(failure), status_code=error.status_code)

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", Chat(service, openai_wire), methods=["POST"]),
            Route("/v1/responses", Chat(service, responses_wire), methods=["POST"]),
            Route("/v1/messages", Chat(service, anthropic_wire), methods=["POST"]),
            Route("/v1/messages/count_tokens", TokenCounts(service), methods=["POST"]),
            Route("/v1/embeddings", Embeddings(service), methods=["POST"]),
            Route("/v1/models", service.list_models),
            Route("/v1/models/{name:path}", service.show_model),
            Route("/health", service.health),
            Route("/sandbox/calls", service.calls_endpoint, methods=["GET", "DELETE"]),
            Route("/sandbox/faults", service.faults_endpoint, methods=["GET", "PUT"]),
        ],
        exception_handlers={HTTPException: not_found},
    )
    app.state.service = service
    return app


class Service:
    """What the endpoints share.

    Attributes:
        sandbox: Plans answers.
        settings: Its settings.
        calls: What was asked.
        faults: What goes wrong on purpose.
        cache: The prompt cache.
        stopper: Ends all waiting when the server stops: answers go out at once, what hangs closes.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        from orjson import dumps, loads

        self.sandbox = sandbox
        self.settings = sandbox.settings
        self.calls = CallLog(self.settings.keep_calls)
        self.faults = FaultBox(self.settings.rules, self.settings.seed)
        self.cache = PromptCache()
        self.stopper = Stopper()
        self.held_bytes = 0
        self.dumps: Callable[[Any], bytes] = dumps
        self.loads: Callable[[bytes | bytearray], Any] = loads
        self._keys = [key.encode() for key in self.settings.api_keys]
        self._numbers = itertools.count(1)
        self._mark = digest("server", self.settings.seed, time.time_ns()).hex()[:12]

    def request_id(self) -> str:
        """A new id."""
        return f"{self._mark}{next(self._numbers):08x}"

    def check_key(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request without one of the settings' keys.

        Raises:
            RequestError: 401; the key is not repeated.
        """
        if not self._keys:
            return
        given = headers.get(b"x-api-key", b"")
        if not given:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            given = token.strip() if scheme.lower() == b"bearer" else b""
        # Every key is compared, so that the time says nothing on which one was near.
        if not sum([hmac.compare_digest(given, key) for key in self._keys]):
            found = "an API key that is not among the sandbox's" if given else "no API key"
            raise RequestError(
                401,
                f"found {found}; wanted one of those it was started with, as Bearer token or "
                "x-api-key",
            )

    # -- the endpoints on Starlette's own responses ------------------------------------------

    async def health(self, _: Request) -> Response:
        """``GET /health``."""
        return self._json({"status": "stopping" if self.stopper.stopped else "ok"})

    async def list_models(self, request: Request) -> Response:
        """``GET /v1/models`` in the form of the API that asks."""
        if (refused := self._refusal(request)) is not None:
            return refused
        names = sorted(self.sandbox.models)
        cards = [self._card(name, request) for name in names]
        if b"anthropic-version" in dict(request.scope["headers"]):
            ends = {"first_id": names[0], "last_id": names[-1]} if names else {}
            return self._json({"data": cards, "has_more": False, **ends})
        return self._json({"object": "list", "data": cards})

    async def show_model(self, request: Request) -> Response:
        """``GET /v1/models/{name}``."""
        if (refused := self._refusal(request)) is not None:
            return refused
        try:
            profile = self.sandbox.profile(request.path_params["name"])
        except UnknownNameError as error:
            return self._failed(request, _unknown_model(error))
        return self._json(self._card(profile.name, request))

    async def calls_endpoint(self, request: Request) -> Response:
        """``GET /sandbox/calls?latest=N&prompts=1``; ``DELETE`` forgets."""
        if (refused := self._refusal(request)) is not None:
            return refused
        if request.method == "DELETE":
            self.calls.clear()
        latest = request.query_params.get("latest", "0")
        return self._json(
            self.calls.to_dict(
                latest=int(latest) if latest.isdecimal() else 0,
                prompts=request.query_params.get("prompts", "0") not in ("", "0", "false"),
            )
        )

    async def faults_endpoint(self, request: Request) -> Response:
        """``GET /sandbox/faults``; ``PUT`` takes ``{"rules": [TEXT, ...]}`` in their place."""
        if (refused := self._refusal(request)) is not None:
            return refused
        if request.method == "PUT":
            try:
                # Rules are few; a body beyond 1 MB is none.
                with suppress(ValueError):
                    if int(request.headers.get("content-length", "0")) > 2**20:
                        raise RequestError(413, "wanted a list of rules of at most 1 MB")
                self.faults.replace(_rules(self.loads(await request.body())))
            except RequestError as error:
                return self._failed(request, error)
            except (ZeroRouterError, ValueError) as error:
                return self._failed(request, RequestError(400, str(error), param="rules"))
        return self._json({"rules": [str(rule) for rule in self.faults.rules]})

    def _card(self, name: str, request: Request) -> dict[str, Any]:
        profile = self.sandbox.models[name]
        date = "-".join([*(profile.released or _EPOCH).split("-"), "01"][:3])
        if b"anthropic-version" in dict(request.scope["headers"]):
            return anthropic_wire.model_card(name, f"{date}T00:00:00Z")
        from datetime import UTC, datetime

        created = datetime.fromisoformat(date).replace(tzinfo=UTC)
        return openai_wire.model_card(name, profile.vendor, int(created.timestamp()))

    def _refusal(self, request: Request) -> Response | None:
        try:
            self.check_key(dict(request.scope["headers"]))
        except RequestError as error:
            return self._failed(request, error)
        return None

    def _failed(self, request: Request, error: RequestError) -> Response:
        native = b"anthropic-version" in dict(request.scope["headers"])
        return self._json(
            (anthropic_wire if native else openai_wire).error(
                Failure(
                    status=error.status,
                    message=error.message,
                    request_id=self.request_id(),
                    code=error.code,
                    param=error.param,
                )
            ),
            error.status,
        )

    def _json(self, value: Any, status: int = 200) -> Response:
        from starlette.responses import Response

        return Response(self.dumps(value), status_code=status, media_type="application/json")


class Endpoint:
    """A ``POST`` endpoint in plain ASGI: reads the body, answers, and logs the call."""

    def __init__(self, service: Service, wire: Wire) -> None:
        self.service = service
        self.wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        service = self.service
        call = service.calls.begin(scope["path"])
        line = Line(scope, receive, send, service.stopper)
        headers = dict(scope["headers"])
        request_id = service.request_id()
        held = 0
        try:
            service.check_key(headers)
            self.check_headers(headers)
            body, held = await self._body(headers, receive)
            await self.answer(line, call, headers, self._parsed(body), request_id)
        except ClientLeft:
            call.outcome = "left"
        except RequestError as error:
            await self._fail(line, call, error, request_id)
        except Exception:
            call.status, call.outcome = 500, "error"
            raise
        finally:
            service.held_bytes -= held
            line.release()
            service.calls.finish(call)

    def check_headers(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request without the headers its API wants: Anthropic's names its version.

        Raises:
            RequestError: 400.
        """
        if self.wire.NAME == anthropic_wire.NAME and b"anthropic-version" not in headers:
            raise RequestError(400, "anthropic-version: header is required")

    async def answer(
        self, line: Line, call: Call, headers: Mapping[bytes, bytes], body: Any, request_id: str
    ) -> None:
        """Answer a request whose body is JSON.

        Raises:
            RequestError: It is answered with an error.
            ClientLeft: The client closed the connection.
        """
        raise NotImplementedError

    def own_headers(self, request_id: str) -> Headers:
        """Headers of every answer."""
        name = b"request-id" if self.wire.NAME == anthropic_wire.NAME else b"x-request-id"
        return [(name, f"req_{request_id}".encode())]

    async def trouble(
        self, line: Line, call: Call, headers: Mapping[bytes, bytes], subject: Subject
    ) -> Trouble | None:
        """The call's faults; None where one of them has ended it already.

        Raises:
            RequestError: One of them is an error.
        """
        asked = headers.get(FAULT_HEADER)
        try:
            trouble = self.service.faults.choose(
                subject.profile.name,
                subject.key,
                None if asked is None else asked.decode("latin-1"),
            )
        except (InputError, UnknownNameError) as error:
            raise RequestError(400, f"{FAULT_HEADER.decode()}: {error}") from error
        if not trouble.names:
            return trouble
        call.faults = trouble.names
        if (outcome := await play_nothing(line, trouble)) is not None:
            call.outcome = outcome
            return None
        if trouble.status is not None:
            raise RequestError(trouble.status, FAULT_TEXT, retry_after_s=trouble.retry_after_s)
        return trouble

    def look_up(self, call: Call, ask: Ask) -> Subject:
        """The request's model and prompt.

        Raises:
            RequestError: The model is unknown, or the prompt too long for it.
        """
        try:
            subject = self.service.sandbox.subject(ask)
        except UnknownNameError as error:
            raise _unknown_model(error) from error
        profile = subject.profile
        self.service.calls.identify(call, profile.name, subject.key, profile.price)
        room = profile.context_tokens
        if room is not None and subject.input_tokens > room:
            raise RequestError(
                400,
                f"the prompt is too long: {subject.input_tokens} tokens; "
                f"{profile.name} takes {room} at most",
                code="context_length_exceeded",
                param="messages",
            )
        return subject

    async def _body(
        self, headers: Mapping[bytes, bytes], receive: Receive
    ) -> tuple[bytes | bytearray, int]:
        """The body, and the bytes that it holds until the answer is out."""
        service, most = self.service, self.service.settings.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            if b"expect" not in headers:  # else the client waits for leave to send
                await _discard(receive, most)
            raise _too_large(most)
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            collected = bytearray(body)
            try:
                async with asyncio.timeout(service.settings.body_timeout_s):
                    while message.get("more_body"):
                        message = await receive()
                        collected += message.get("body", b"")
                        if len(collected) > most:
                            collected.clear()
                            await _discard(receive, most)
                            raise _too_large(most)
            except TimeoutError:
                raise RequestError(
                    408, f"the body took longer than {service.settings.body_timeout_s:g} s"
                ) from None
            body = collected
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if len(body) > most:
            raise _too_large(most)
        if service.held_bytes + len(body) > service.settings.max_held_bytes:
            raise RequestError(
                503, "the sandbox holds as many bytes of requests as it may", retry_after_s=1.0
            )
        service.held_bytes += len(body)
        return body, len(body)

    def _parsed(self, body: bytes | bytearray) -> Any:
        try:
            return self.service.loads(body)
        except ValueError as error:
            raise RequestError(400, f"the body is not JSON: {error}") from error

    async def _fail(self, line: Line, call: Call, error: RequestError, request_id: str) -> None:
        call.status, call.outcome = error.status, "error"
        failure = Failure(
            status=error.status,
            message=error.message,
            request_id=f"req_{request_id}",
            code=error.code,
            param=error.param,
        )
        headers = [JSON, *self.own_headers(request_id)]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", f"{error.retry_after_s:g}".encode()))
        if error.status in (408, 413):
            headers.append((b"connection", b"close"))  # the rest of the body stays unread
        await line.whole(error.status, headers, self.service.dumps(self.wire.error(failure)))


class Chat(Endpoint):
    """``/v1/chat/completions``, ``/v1/responses`` and ``/v1/messages``."""

    async def answer(
        self, line: Line, call: Call, headers: Mapping[bytes, bytes], body: Any, request_id: str
    ) -> None:
        """Answer as planned, with the faults that hit this call."""
        service, settings = self.service, self.service.settings
        ask = self.wire.read(body, _sample(headers))
        call.stream = ask.stream
        subject = self.look_up(call, ask)
        trouble = await self.trouble(line, call, headers, subject)
        if trouble is None:
            return
        plan = self._plan(ask, subject, body, trouble)
        identity = Identity(
            key=request_id,
            answer=f"{subject.profile.name}/{plan.prompt}/{ask.sample}",
            created=int(time.time()),
        )
        if trouble.ending == "stream_error" and not ask.stream:
            raise RequestError(500, FAULT_TEXT)
        service.calls.bill(call, plan)
        call.status = 200
        told = [*self.own_headers(request_id), *_told(plan)]
        first_s = plan.ttft_s * settings.time_scale
        rest_s = (plan.latency_s - plan.ttft_s) * settings.time_scale
        if not ask.stream:
            whole = service.dumps(self.wire.message(plan, ask, identity))
            call.outcome = await play_whole(line, told, whole, trouble, first_s + rest_s)
            return
        call.outcome = await play_stream(
            line,
            told,
            self.wire.chunks(plan, ask, identity, settings.chunk_tokens),
            self.wire,
            service.dumps,
            trouble,
            Failure(status=529, message=FAULT_TEXT, request_id=f"req_{request_id}"),
            first_s=first_s,
            rest_s=rest_s,
            flush=settings.flush_chunks,
        )

    def _plan(self, ask: Ask, subject: Subject, body: Mapping[str, Any], trouble: Trouble) -> Plan:
        service = self.service
        cache = NO_CACHE
        if service.settings.prompt_cache:
            cache = service.cache.use(
                self.wire.NAME, subject.profile.name, body, subject.input_tokens
            )
        plan = service.sandbox.plan(ask, subject=subject, cache=cache)
        return plan if trouble.content is None else spoiled(plan, trouble.content)


class TokenCounts(Endpoint):
    """``/v1/messages/count_tokens``."""

    def __init__(self, service: Service) -> None:
        super().__init__(service, anthropic_wire)

    async def answer(
        self, line: Line, call: Call, headers: Mapping[bytes, bytes], body: Any, request_id: str
    ) -> None:
        """Count as the usage of the same request would."""
        ask = anthropic_wire.read(body, counting=True)
        subject = self.look_up(call, ask)
        trouble = await self.trouble(line, call, headers, subject)
        if trouble is not None:
            call.status = 200
            counted = self.service.dumps({"input_tokens": subject.input_tokens})
            call.outcome = await play_whole(
                line, self.own_headers(request_id), counted, trouble, 0.0
            )


class Embeddings(Endpoint):
    """``/v1/embeddings``: any model's name will do."""

    def __init__(self, service: Service) -> None:
        super().__init__(service, openai_wire)

    async def answer(
        self, line: Line, call: Call, headers: Mapping[bytes, bytes], body: Any, request_id: str
    ) -> None:
        """Answer with vectors; errors may be asked for, as with chat."""
        made = openai_wire.embeddings(body, self.service.settings.seed)
        service = self.service
        key = digest("embeddings", body["input"]).hex()[:16]
        service.calls.identify(call, str(made["model"]), key, None)
        subject = Subject.bare(str(made["model"]), key, made["usage"]["prompt_tokens"])
        trouble = await self.trouble(line, call, headers, subject)
        if trouble is not None:
            call.status = 200
            call.outcome = await play_whole(
                line, self.own_headers(request_id), service.dumps(made), trouble, 0.0
            )


def _sample(headers: Mapping[bytes, bytes]) -> int | None:
    given = headers.get(SAMPLE_HEADER)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise RequestError(400, f"{SAMPLE_HEADER.decode()}: wanted a whole number, 0 or more")
    return int(given)


def _told(plan: Plan) -> Headers:
    """What the answer is, in headers: where it comes from and whether it counts as correct."""
    marks = ["-" if c.correct is None else str(int(c.correct)) for c in plan.choices]
    return [
        (b"x-sandbox-answer", plan.source.encode()),
        (b"x-sandbox-correct", ",".join(marks).encode()),
        (b"x-sandbox-p-correct", b"%.4f" % plan.p_correct),
        header_bytes("x-sandbox-prompt", plan.prompt),
    ]


async def _discard(receive: Receive, most: int) -> None:
    """Read the rest of a body that is refused, within reason.

    A connection that is closed with unread data is reset, and the client would see that in place
    of the answer.
    """
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_TIMEOUT_S):
            while size <= DISCARD_FACTOR * most:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"the body is longer than {most} bytes, the most that is taken")


def _unknown_model(error: UnknownNameError) -> RequestError:
    return RequestError(
        404, f"{error}; GET /v1/models lists them", code="model_not_found", param="model"
    )


def _rules(body: Any) -> list[Any]:
    rules = body.get("rules") if isinstance(body, dict) else None
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise InputError('wanted an object such as {"rules": ["gpt-4o*:429@0.1"]}')
    return rules_of(rules)
