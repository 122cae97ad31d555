"""
The worker's own door: health and counts, for the supervisor and the control role.

A socket in the run directory, and a port where no control collects the metrics; the data port knows nothing of it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from config.scalars import split_listen
from proxy.exposition import CONTENT_TYPE, page

if TYPE_CHECKING:
    from proxy.app import Edge

__all__ = ["own_door"]


@asynccontextmanager
async def own_door(edge: "Edge") -> AsyncIterator[None]:
    """Have it open. Raises `OSError` where it cannot be."""

    async def live(_: web.Request) -> web.Response:
        # The supervisor has to know how long it must wait for our end, and this can be changed while we run.
        said: dict[str, object] = {"status": "live"}
        if edge.configured.is_set():
            said["drain_timeout_s"] = edge.live.config.edge.drain_timeout_s
        return web.json_response(said)

    async def ready(_: web.Request) -> web.Response:
        why = edge.ready
        return web.json_response({"status": why or "ready"}, status=503 if why else 200)

    async def snapshot(_: web.Request) -> web.Response:
        if not edge.serving:
            return web.json_response({"status": edge.ready}, status=503)
        return web.json_response(edge.metrics.snapshot(edge.gate.boot.member))

    async def metrics(_: web.Request) -> web.Response:
        said = page(edge.metrics.snapshot(edge.gate.boot.member)) if edge.serving else b""
        status = 200 if edge.serving else 503
        return web.Response(status=status, body=said, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    app = web.Application()
    app.add_routes(
        [
            web.get("/health/live", live),
            web.get("/health/ready", ready),
            web.get("/snapshot", snapshot),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    options = edge.options
    path = options.run_dir / f"edge-{options.worker}.sock"
    try:
        await runner.setup()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        await web.UnixSite(runner, str(path)).start()
        if options.metrics:
            host, port = split_listen(options.metrics)
            await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
