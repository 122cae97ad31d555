"""What llhttp makes of the mock vendor's plans."""

import json

import httptools

from loadtests.mock.exchange import Asked
from loadtests.mock.plan import CHAT, plan


class Answer:
    """What llhttp makes of bytes: status, headers, body, and whether the end was seen."""

    def __init__(self, wire):
        self.headers = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(wire)
        self.status = parser.get_status_code()
        self.events = [
            line.removeprefix(b"data: ")
            for line in self.body.splitlines()
            if line.startswith(b"data: ")
        ]

    @property
    def json(self):
        return [json.loads(event) for event in self.events if event != b"[DONE]"]

    def on_header(self, name, value):
        self.headers[name.decode()] = value.decode()

    def on_body(self, piece):
        self.body += piece

    def on_message_complete(self):
        self.complete = True


def answer(model, path=CHAT, **asked):
    made = plan(Asked(path, model, **asked), created=1_700_000_000)
    return made, Answer(b"".join(step.wire for step in made.steps))


def said(chunks):
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
