"""The mock's files and batches: kept, worked off by looking, and counted."""

import json

import httpx2
import pytest

from loadtests import mock


async def test_a_batch_goes_on_as_it_is_looked_at() -> None:
    """Its calls are in its output and in the books; what failed is in the output alone."""
    calls = b"".join(
        json.dumps(
            {"custom_id": name, "url": "/v1/chat/completions", "body": {"model": name}}
        ).encode()
        + b"\n"
        for name in ("sim;tokens=3;prompt=4", "sim;status=500")
    )
    async with mock.serve() as vendor, httpx2.AsyncClient(base_url=vendor.base_url) as client:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("x.jsonl", calls)}}
        made = (await client.post("/files", **form)).json()
        assert made["bytes"] == len(calls)
        assert (await client.get(f"/files/{made['id']}/content")).content == calls
        asked = {
            "input_file_id": made["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        batch = (await client.post("/batches", json=asked)).json()
        states = [(await client.get(f"/batches/{batch['id']}")).json()["status"] for _ in range(3)]
        assert states == ["in_progress", "completed", "completed"]
        done = (await client.post(f"/batches/{batch['id']}/cancel")).json()
        assert done["status"] == "completed"
        output = (await client.get(f"/files/{done['output_file_id']}/content")).text
        lines = [json.loads(line)["response"] for line in output.splitlines()]
        assert [line["status_code"] for line in lines] == [200, 500]
        assert lines[0]["body"]["usage"]["total_tokens"] == 7
        assert (await client.delete(f"/files/{made['id']}")).json()["deleted"]
        assert (await client.get(f"/files/{made['id']}")).status_code == 404
        totals = vendor.books()["totals"]
    assert (totals["calls"], totals["prompt_tokens"], totals["completion_tokens"]) == (1, 4, 3)


@pytest.mark.parametrize("path", ["/files", "/batches"])
async def test_a_bad_call_is_refused(path: str) -> None:
    """With 400."""
    async with mock.serve() as vendor, httpx2.AsyncClient(base_url=vendor.base_url) as client:
        assert (await client.post(path, content=b"nothing")).status_code == 400
        assert (await client.get(f"{path}/nobody")).status_code == 404
