"""Laws of the mock vendor's realtime sessions."""

import asyncio
import json

import aiohttp
import pytest

from loadtests import mock


async def test_a_response_is_what_the_name_of_the_model_says() -> None:
    """And is in the books."""
    async with mock.serve() as vendor, aiohttp.ClientSession() as client, asyncio.timeout(10):
        url = f"{vendor.base_url}/realtime"
        model = "sim;tokens=5;prompt=9;audio_out=2"
        async with client.ws_connect(url, params={"model": model}) as ws:
            await ws.send_str(json.dumps({"type": "response.create"}))
            kinds = []
            while kinds[-1:] != ["response.done"]:
                event = await ws.receive_json()
                kinds.append(event["type"])
        assert kinds.count("response.output_audio.delta") == 2
        assert kinds.count("response.output_text.delta") == 3
        assert event["response"]["usage"]["total_tokens"] == 14
        totals = vendor.books()["totals"]
        assert (totals["calls"], totals["completion_tokens"]) == (1, 5)
        for model, status in (("sim;status=503", 503), ("sim;nonsense=1", 400)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(url, params={"model": model})
            assert refused.value.status == status


async def test_who_leaves_within_a_response_is_written_down_as_that() -> None:
    """With the tokens that were out by then."""
    async with mock.serve() as vendor, aiohttp.ClientSession() as client, asyncio.timeout(10):
        params = {"model": "sim;tokens=1000;interval_ms=5"}
        async with client.ws_connect(f"{vendor.base_url}/realtime", params=params) as ws:
            await ws.send_str(json.dumps({"type": "response.create"}))
            while (await ws.receive_json())["type"] != "response.output_text.delta":
                pass
        await vendor.quiet()
        totals = vendor.books()["totals"]
        assert totals["outcomes"] == {"client_left": 1}
        assert 1 <= totals["completion_tokens"] < 1000
