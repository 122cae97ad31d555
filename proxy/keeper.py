"""
The provider that keeps what callers upload: how it is asked for a document, what that is charged, and what its answers mean.

aiohttp's client asks: files and batches are not the hot path.
"""

import asyncio
import io
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from proxy.attempts import OF_THE_CALLER, Ended, outcome_of
from proxy.documents import read_document
from proxy.errors import BadRequest, UpstreamFailed
from proxy.live import Live
from proxy.place import secrets_of, without
from proxy.relay import Attempt
from proxy.settlement import finish
from proxy.wire.meter import Units, Usage
from routing.rates import Rates

if TYPE_CHECKING:
    from proxy.app import Edge

__all__ = ["ID", "Keeper", "Step", "read_object", "unreached"]

# Most of an answer that is a document.
MOST_ANSWER: Final = 16 << 20
# What a vendor may say of the caller's own request.
PASSED_ON: Final = OF_THE_CALLER | {404}
ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Step(Attempt):
    """
    What is asked of the provider once, and what it is charged.

    `charged_nusd` is what is charged in advance for what the provider begins; `unsure` says that it may have begun it and did not say so.
    """

    __slots__ = ("charged_nusd", "unsure")

    charged_nusd: int
    unsure: bool

    def conclude(self, ended: Ended, cost_nusd: int = 0) -> None:
        """Settle it with this cost and no tokens."""
        version = self.place.rates.version
        rates = Rates(0, 0, 0, 0, 0, 0, 0, request_nusd=cost_nusd, version=version)
        self.place = replace(self.place, rates=rates)
        self.status = ended.status
        finish(self, ended, Usage(units=Units()))


class Object(msgspec.Struct):
    """What is read of an object of the provider's."""

    id: str = ""
    status: str = ""


_OBJECT = msgspec.json.Decoder(Object)


class Keeper:
    """One provider as one version of the configuration has it."""

    def __init__(self, edge: "Edge", live: Live, name: str) -> None:
        self.name = name
        self._edge = edge
        self._live = live
        self._provider = live.config.providers[name]

    @property
    def batch_percent(self) -> int:
        """What a call costs in a batch, in percent of what it costs else."""
        return self._provider.batch_percent

    def asking(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask; gives the answer's head, and lets go of the answer at the end. Raises what aiohttp raises, and `TimeoutError`."""
        provider = self._provider
        headers = self._live.headers_to(self.name)
        if content_type:
            headers["content-type"] = content_type
        return self._edge.outside.request(
            method,
            provider.base_url.rstrip("/") + path,
            data=None if body is None else io.BytesIO(body),
            headers=headers,
            ssl=self._live.origins[self.name].ssl_context or True,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=provider.total_timeout_s,
                connect=provider.connect_timeout_s,
                sock_read=provider.first_byte_timeout_s,
            ),
        )

    async def ask(
        self,
        method: str,
        path: str,
        step: Step | None = None,
        body: bytes | None = None,
        content_type: str = "",
    ) -> tuple[int, bytes]:
        """
        Ask, and return the status and an object. Raises `GatewayError` for what is none; the step is settled then.

        It costs nothing where the provider has refused, or was never reached; else what is charged in advance stays,
        until the control knows what became of it.
        """
        ended, unsure = Ended("internal"), True
        try:
            async with self.asking(method, path, body, content_type) as answer:
                status: int = answer.status
                if not 200 <= status < 300:
                    ended, unsure = Ended(outcome_of(status), status), status >= 500
                    raise await self.refusal(answer)
                said = await read_document(answer, MOST_ANSWER)
            read_object(said)
            step = None
            return status, said
        except asyncio.CancelledError:
            ended = Ended("client_left")
            raise
        except (msgspec.MsgspecError, UnicodeDecodeError):
            ended = Ended("bad_answer", 200)
            raise UpstreamFailed(
                "The provider's answer cannot be understood.", code="bad_answer"
            ) from None
        except (aiohttp.ClientError, OSError) as error:  # OSError: TimeoutError too
            unsure = not isinstance(error, aiohttp.ClientConnectorError)
            failed = unreached(error)
            ended = Ended(failed.code)
            raise failed from None
        finally:
            if step is not None:
                step.unsure = unsure
                step.conclude(ended, step.charged_nusd if unsure else 0)

    async def refusal(self, answer: aiohttp.ClientResponse) -> BadRequest | UpstreamFailed:
        """Return what a refusal means for the caller: the provider's own words where they are about the request."""
        status = answer.status
        if status not in PASSED_ON:
            return UpstreamFailed(
                f"The provider that keeps files answered {status}.",
                code="upstream_refused",
                status=429 if status == 429 else 502,
            )
        said = await read_document(answer, MOST_ANSWER)
        said = without(secrets_of(self._provider), said)
        try:
            error = msgspec.json.decode(said)["error"]
            words, code, param = str(error["message"]), error.get("code"), error.get("param")
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            words, code, param = f"The provider answered {status}.", None, None
        return BadRequest(
            words[:1000],
            code=code if isinstance(code, str) else "upstream_refused",
            param=param if isinstance(param, str) else None,
            status=status,
        )


def read_object(said: bytes) -> Object:
    """Read the id and the status of an object. Raises `msgspec.MsgspecError`, or `UnicodeDecodeError`, for what is none."""
    found: Object = _OBJECT.decode(said)
    if not ID.fullmatch(found.id):
        raise msgspec.ValidationError("an object without an id")
    return found


def unreached(error: Exception) -> UpstreamFailed:
    """Return what a provider that gave no answer means for the caller."""
    if isinstance(error, TimeoutError):
        return UpstreamFailed(
            "The provider gave no answer in time.", code="total_timed_out", status=504
        )
    return UpstreamFailed("The provider cannot be reached.", code="connect_failed")
