"""The data port's routes: what each is answered by, and that whatever can spend passes admission."""

import asyncio
import json
from typing import Any

import pytest

from governance.kept import Kept, keep
from proxy.doors import Doors
from ratelimit.troubles import StoreUnavailable
from tests.proxy.edge_rig import Edge as MakeEdge
from tests.proxy.partners import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    at,
    chat,
    message,
    request,
)

BODIES = {
    CHAT: chat(),
    COMPLETIONS: b'{"model":"m","prompt":"x"}',
    EMBEDDINGS: b'{"model":"m","input":"x"}',
    "/v1/responses": b'{"model":"m","input":"x"}',
    MESSAGES: message(),
    COUNT_TOKENS: message(max_tokens=None),
}
CONTENTS = b'{"contents":[{"parts":[{"text":"x"}]}]}'
NAMED = {
    f"/v1beta/models/{{model}}:{verb}": CONTENTS
    for verb in (
        "generateContent",
        "streamGenerateContent",
        "streamGenerateContent?alt=sse",
        "countTokens",
    )
}
EMBED = b'{"content":{"parts":[{"text":"x"}]}}'
NAMED |= {
    "/v1beta/models/{model}:embedContent": EMBED,
    "/v1beta/models/{model}:batchEmbedContents": b'{"requests":[%b]}' % EMBED,
}
BODIES |= {
    "/api/embed": b'{"model":"m","input":"x"}',
    "/api/embeddings": b'{"model":"m","prompt":"x"}',
    "/v2/embed": b'{"model":"m","texts":["x"],"input_type":"search_query"}',
    "/v2/rerank": b'{"model":"m","query":"x","documents":["x"]}',
    "/v1/rerank": b'{"model":"m","query":"x","documents":["x"]}',
    "/api/chat": b'{"model":"m","messages":[{"role":"user","content":"x"}]}',
    "/api/generate": b'{"model":"m","prompt":"x"}',
}
FORM = "multipart/form-data; boundary=b"
FILE = b'--b\r\ncontent-disposition: form-data; name="%b"; filename="f"\r\n\r\nx\r\n'
FIELD = b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\nm\r\n'
BODIES |= {
    "/v1/moderations": b'{"model":"m","input":"x"}',
    "/v1/images/generations": b'{"model":"m","prompt":"x"}',
    "/v1/images/edits": FIELD % b"model" + FIELD % b"prompt" + FILE % b"image" + b"--b--",
    "/v1/images/variations": FIELD % b"model" + FILE % b"image" + b"--b--",
    "/v1/audio/speech": b'{"model":"m","input":"x","voice":"v"}',
    "/v1/audio/transcriptions": FIELD % b"model" + FILE % b"file" + b"--b--",
    "/v1/audio/translations": FIELD % b"model" + FILE % b"file" + b"--b--",
}
BODIES |= NAMED
BODIES |= {f"{path}?beta=true": body for path, body in BODIES.items() if path.startswith(MESSAGES)}
FACTS = (
    b'{"model":"m","url":"/v1/chat/completions","lines":1,"input_estimate":1,"input_bound":1,'
    b'"longest":1,"output":1,"uncapped":0}'
)
INPUT = Kept("file-1", "acme/support", "mock", "file", b'{"id":"file-1"}', FACTS)
KEPT = {
    *("/v1/batches/{id}", "/v1/batches/{id}/cancel"),
    *("/v1/files/{id}", "/v1/files/{id}/content"),
}
SPENDING_NOTHING = {"/v1/feedback", "/v1/batches/{id}/cancel"}
BODIES |= {
    "/v1/files": FIELD % b"purpose" + FILE % b"file" + b"--b--",
    "/v1/batches": b'{"input_file_id":"file-1","endpoint":"/v1/chat/completions"}',
}
SOCKETS = {"/v1/realtime": "/v1/realtime?model=m"}
UPGRADE = [
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
GOOGLE = {"google": {"protocol": "gemini", "base_url": "http://127.0.0.1:9"}}
SERVED = {"m": ["sim"], "c": [at("messages", "sim")], "g": [at("google", "sim")]}


async def test_every_route_that_can_spend_passes_admission(edge: MakeEdge) -> None:
    """Walk all routes with admission broken: none of them reaches a vendor, and each POST and each session asks for admission."""
    rig = await edge(models=SERVED, providers=GOOGLE, keeper="mock")
    asked: list[str] = []

    def admit(ask: Any) -> "asyncio.Future[Any]":
        asked.append(ask.attempt_id)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(StoreUnavailable("broken for this test"))
        return future

    rig.edge.gate.admit = admit  # type: ignore[method-assign]
    routes = Doors(rig.edge).routes
    # What is said of an answer asks for none, nor does what only ends something.
    spending = {path for path, methods in routes.items() if "POST" in methods} - SPENDING_NOTHING
    assert spending == set(BODIES)
    await keep(rig.redis, INPUT, 0)
    # A session is asked for by GET.
    spending |= SOCKETS.keys()
    for path, methods in routes.items():
        for method in methods if path != "/v1/feedback" else ():
            before = len(asked)
            target = path.replace("{id}", "m").replace("{model}", "g")
            body = BODIES.get(path) if method == "POST" else None
            headers = [f"Content-Type: {FORM}"] if body and body.startswith(b"--b") else []
            headers += UPGRADE if path in SOCKETS else []
            target = SOCKETS.get(path, target)
            answer = await rig.ask(body, *headers, path=target, method=method)
            if path in SOCKETS or (path in spending and method == "POST"):
                assert answer.status == 503, path
                assert len(asked) == before + 1, path
            else:
                # Nothing of that name is kept here.
                assert answer.status == (404 if path in KEPT else 200), path
                assert len(asked) == before
    assert rig.mock.books()["totals"]["calls"] == 0


async def test_the_routes_are_those_that_are_documented(edge: MakeEdge) -> None:
    """And no route of an operator's is on the data port."""
    rig = await edge(models={"m": ["sim"]})
    assert Doors(rig.edge).routes == {
        "/v1/chat/completions": ("POST",),
        "/v1/completions": ("POST",),
        "/v1/embeddings": ("POST",),
        "/v1/responses": ("POST",),
        "/v1/realtime": ("GET",),
        "/v1/files": ("POST", "GET"),
        "/v1/files/{id}": ("GET", "DELETE"),
        "/v1/files/{id}/content": ("GET",),
        "/v1/batches": ("POST", "GET"),
        "/v1/batches/{id}": ("GET",),
        "/v1/batches/{id}/cancel": ("POST",),
        "/v1/moderations": ("POST",),
        "/v1/images/generations": ("POST",),
        "/v1/images/edits": ("POST",),
        "/v1/images/variations": ("POST",),
        "/v1/audio/speech": ("POST",),
        "/v1/audio/transcriptions": ("POST",),
        "/v1/audio/translations": ("POST",),
        "/v1/messages": ("POST",),
        "/v1/messages?beta=true": ("POST",),
        "/v1/messages/count_tokens": ("POST",),
        "/v1/messages/count_tokens?beta=true": ("POST",),
        "/api/chat": ("POST",),
        "/api/generate": ("POST",),
        "/api/embed": ("POST",),
        "/api/embeddings": ("POST",),
        "/v2/embed": ("POST",),
        "/v2/rerank": ("POST",),
        "/v1/rerank": ("POST",),
        "/api/tags": ("GET",),
        "/api/version": ("GET",),
        "/v1/feedback": ("POST",),
        "/v1/models": ("GET",),
        "/v1/models/{id}": ("GET",),
        "/v1beta/models": ("GET",),
        "/v1beta/models/{id}": ("GET",),
        **dict.fromkeys(NAMED, ("POST",)),
        "/": ("HEAD", "GET"),
        "/health/live": ("GET", "HEAD"),
        "/health/ready": ("GET", "HEAD"),
    }


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/v1/nothing", "POST", 404), ("/v1/models", "POST", 405)]
)
async def test_a_wrong_route_is_refused_before_its_body(
    edge: MakeEdge, path: str, method: str, status: int
) -> None:
    """The answer comes although the body does not, and the connection closes behind it."""
    rig = await edge(models={"m": ["sim"]})
    caller = await rig.caller()
    await caller.send(request(None, "Content-Length: 1000000", path=path, method=method))
    answer = await caller.answer()
    assert answer.status == status
    assert answer.header("connection") == "close"
    assert answer.header("x-should-retry") == "false"
    assert answer.header("x-request-id") is not None
    assert answer.error["type"] == "invalid_request_error"


async def test_the_models_are_those_of_the_key(edge: MakeEdge) -> None:
    """A list and single ones; what the key may not use does not exist for it."""
    rig = await edge(
        models={"m": ["sim"], "org/n": ["sim"], "o": ["sim"], "o:latest": ["sim"]},
        routes={"auto/coding": ["m"], "auto": ["o"]},
        key={"models": ["org/n", "o:latest", "auto/coding"]},
    )
    listed = await rig.ask(None, method="GET", path="/v1/models")
    assert listed.json["object"] == "list"
    assert [(one["id"], one["object"], one["owned_by"]) for one in listed.json["data"]] == [
        ("org/n", "model", "organization"),
        ("o:latest", "model", "organization"),
        ("auto/coding", "model", "penstock"),
    ]
    for name in ("org/n", "org%2Fn", "o:latest", "auto/coding"):
        one = await rig.ask(None, method="GET", path=f"/v1/models/{name}")
        assert (one.status, one.json["id"]) == (200, name.replace("%2F", "/"))
    for name in ("m", "auto", "nobody", "org", "%00", "m?x=1", "x" * 500):
        gone = await rig.ask(None, method="GET", path=f"/v1/models/{name}")
        assert (gone.status, gone.error["code"]) == (404, "model_not_found")
        assert gone.error["param"] == "model"
    assert (await rig.ask(None, method="GET", path="/v1/models/")).status == 404
    for key, code in ((None, "missing_api_key"), ("sk-nobody-knows", "invalid_api_key")):
        refused = await rig.ask(None, method="GET", path="/v1/models", key=key)
        assert (refused.status, refused.error["code"]) == (401, code)


async def test_models_are_shown_as_the_client_knows_them(edge: MakeEdge) -> None:
    """One URL, asked by every client: what it sends along tells which of them it is."""
    models = {"m": {"deployments": ["sim"], "context": 1000, "max_output": 100}, "n": ["sim"]}
    rig = await edge(models=models, routes={"auto": ["m", "n"]})
    version = "anthropic-version: 2023-06-01"
    listed = await rig.ask(None, version, method="GET", path="/v1/models?limit=1000")
    assert [one["id"] for one in listed.json["data"]] == ["m", "n", "auto"]
    assert {name: listed.json[name] for name in ("has_more", "first_id", "last_id")} == {
        "has_more": False,
        "first_id": "m",
        "last_id": "auto",
    }
    assert listed.header("request-id") == listed.header("x-request-id")
    one = await rig.ask(None, version, method="GET", path="/v1/models/m")
    assert one.json == listed.json["data"][0]
    assert (one.json["type"], one.json["display_name"]) == ("model", "m")
    assert (one.json["max_input_tokens"], one.json["max_tokens"]) == (1000, 100)
    key = f"x-goog-api-key: {rig.caller_key}"
    for google in (
        await rig.ask(None, key, method="GET", path="/v1/models", key=None),
        await rig.ask(None, method="GET", path=f"/v1beta/models?key={rig.caller_key}", key=None),
    ):
        assert [one["name"] for one in google.json["models"]] == [
            "models/m",
            "models/n",
            "models/auto",
        ]
    one = await rig.ask(None, method="GET", path="/v1beta/models/m")
    assert (one.json["name"], one.json["inputTokenLimit"]) == ("models/m", 1000)
    tags = await rig.ask(None, method="GET", path="/api/tags")
    assert [one["model"] for one in tags.json["models"]] == ["m", "n", "auto"]
    assert set((await rig.ask(None, method="GET", path="/api/version")).json) == {"version"}
    gone = await rig.ask(None, version, method="GET", path="/v1/models/x")
    assert (gone.status, gone.json["error"]["type"]) == (404, "not_found_error")
    assert gone.json["request_id"] == gone.header("request-id")


@pytest.mark.parametrize(
    ("path", "method", "status", "kind"),
    [
        (MESSAGES, "GET", 405, "invalid_request_error"),
        ("/v1/messages/batches", "POST", 404, "not_found_error"),
    ],
)
async def test_a_wrong_route_is_refused_in_its_protocol(
    edge: MakeEdge, path: str, method: str, status: int, kind: str
) -> None:
    """Below Anthropic's paths the envelope is Anthropic's."""
    rig = await edge(models=SERVED, providers=GOOGLE)
    answer = await rig.ask(None, path=path, method=method)
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (
        status,
        "error",
        kind,
    )


async def test_anybody_may_ask_for_health(edge: MakeEdge) -> None:
    """Without a key; HEAD has no body, and says how long it would be."""
    rig = await edge(models={"m": ["sim"]})
    caller = await rig.caller()
    for path, document in (
        ("/", {"name": "penstock"}),
        ("/health/live", {"status": "live"}),
        ("/health/ready", {"status": "ready"}),
    ):
        for method in ("HEAD", "GET"):
            await caller.send(request(None, method=method, path=path, key=None))
            answer = await caller.answer(to=method)
            assert answer.status == 200
            assert answer.header("content-length") == str(len(json.dumps(document)))
            assert method == "HEAD" or answer.json == document


async def test_a_query_changes_nothing(edge: MakeEdge) -> None:
    """Azure's clients send one."""
    rig = await edge(models={"m": ["sim"]})
    assert (await rig.ask(chat(), path=f"{CHAT}?api-version=2024-10-21")).status == 200
