"""
The mock's files and batches: kept in memory, one account for everybody, as at a real vendor.

A batch goes on by one state each time that it is looked at: validating, in_progress, completed; its calls are then answered as the
model's name says, each a call of the books.

Protocol: OpenAI's API reference for files and batches.
"""

import json
from collections.abc import Callable
from typing import Any

from loadtests.mock.behaviour import read_behaviour
from loadtests.mock.media import read_form

_STATES = ("validating", "in_progress", "completed")
Count = Callable[[int, int], None]


class Cabinet:
    """What was uploaded, and what was asked to be done with it; `count` books a call's tokens, `unix_s` is the clock."""

    def __init__(self, count: Count, unix_s: Callable[[], int]) -> None:
        self._count = count
        self._unix_s = unix_s
        self._files: dict[str, dict[str, Any]] = {}
        self._contents: dict[str, bytes] = {}
        self._batches: dict[str, dict[str, Any]] = {}
        self._number = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes | dict[str, Any]]:
        """Answer a request below `/v1/files` or `/v1/batches`: a status, and a document or a file's content. Raises `ValueError`."""
        kind, _, rest = path.removeprefix("/v1/").partition("/")
        id_, _, verb = rest.partition("/")
        if kind == "files":
            return self._file(method, id_, verb, body)
        return self._batch(method, id_, verb, body)

    def _file(
        self, method: str, id_: str, verb: str, body: bytes
    ) -> tuple[int, bytes | dict[str, Any]]:
        if not id_:
            if method == "GET":
                return 200, {"object": "list", "data": list(self._files.values())}
            form = read_form(body)
            purpose = form.fields["purpose"]
            return 200, self._keep(purpose, _content(body))
        if id_ not in self._files:
            return 404, _missing("file", id_)
        if verb == "content":
            return 200, self._contents[id_]
        if method == "DELETE":
            del self._files[id_], self._contents[id_]
            return 200, {"id": id_, "object": "file", "deleted": True}
        return 200, self._files[id_]

    def _batch(
        self, method: str, id_: str, verb: str, body: bytes
    ) -> tuple[int, bytes | dict[str, Any]]:
        if not id_:
            if method == "GET":
                return 200, {"object": "list", "data": list(self._batches.values())}
            asked = json.loads(body)
            if asked["input_file_id"] not in self._files:
                return 400, _missing("file", asked["input_file_id"])
            made = self._id("batch_")
            self._batches[made] = {
                "id": made,
                "object": "batch",
                "endpoint": asked["endpoint"],
                "input_file_id": asked["input_file_id"],
                "completion_window": asked["completion_window"],
                "status": _STATES[0],
                "created_at": self._unix_s(),
                "output_file_id": None,
                "error_file_id": None,
                "metadata": asked.get("metadata"),
                "request_counts": {"total": 0, "completed": 0, "failed": 0},
            }
            return 200, self._batches[made]
        batch = self._batches.get(id_)
        if batch is None:
            return 404, _missing("batch", id_)
        if verb == "cancel":
            if batch["status"] != "completed":
                batch["status"] = "cancelled"
        elif batch["status"] in _STATES[:2]:
            batch["status"] = _STATES[_STATES.index(batch["status"]) + 1]
            if batch["status"] == "completed":
                self._work(batch)
        return 200, batch

    def _work(self, batch: dict[str, Any]) -> None:
        lines = self._contents[batch["input_file_id"]].split(b"\n")
        out = [self._call(json.loads(line)) for line in lines if line.strip()]
        batch["output_file_id"] = self._keep(
            "batch_output", b"".join(json.dumps(one).encode() + b"\n" for one in out)
        )["id"]
        batch["request_counts"] = {"total": len(out), "completed": len(out), "failed": 0}

    def _call(self, line: dict[str, Any]) -> dict[str, Any]:
        behaviour = read_behaviour(line["body"]["model"])
        prompt = behaviour.prompt or 0
        if behaviour.status is not None:
            response = {"status_code": behaviour.status, "body": {"error": {"message": "no"}}}
            return {"custom_id": line.get("custom_id"), "response": response, "error": None}
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": behaviour.tokens,
            "total_tokens": prompt + behaviour.tokens,
        }
        body: dict[str, Any] = {"object": "chat.completion", "choices": []}
        if behaviour.usage != "off":
            body["usage"] = usage
        self._count(prompt, behaviour.tokens)
        response = {"status_code": 200, "request_id": "req", "body": body}
        return {"custom_id": line.get("custom_id"), "response": response, "error": None}

    def _keep(self, purpose: str, content: bytes) -> dict[str, Any]:
        made = self._id("file-")
        self._contents[made] = content
        self._files[made] = {
            "id": made,
            "object": "file",
            "bytes": len(content),
            "created_at": self._unix_s(),
            "filename": "calls.jsonl",
            "purpose": purpose,
            "status": "processed",
        }
        return self._files[made]

    def _id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number:024d}"


def _content(body: bytes) -> bytes:
    delimiter = body.partition(b"\r\n")[0]
    for part in body.split(delimiter + b"\r\n")[1:]:
        head, _, rest = part.partition(b"\r\n\r\n")
        if b"filename" in head:
            end = rest.rfind(b"\r\n" + delimiter) if delimiter in rest else len(rest) - 2
            return rest[:end]
    raise ValueError("file is missing")


def _missing(kind: str, id_: str) -> dict[str, Any]:
    words = f"No such {kind} object: {id_}"
    error = {"message": words, "type": "invalid_request_error", "param": "id", "code": None}
    return {"error": error}
