"""Laws of the gateway as it is measured."""

import http.server
import json
import threading

import pytest
import yaml

from loadtests.bench import gateway
from loadtests.bench.measure import MODELS
from loadtests.bench.wrk import BenchFailed

DOCUMENT = yaml.safe_load(gateway.CONFIG.read_text())
HEADERS = {
    "x-request-id": "r1",
    "x-penstock-deployment": "bench/mock",
    "x-ratelimit-remaining-requests": "9",
    "x-penstock-route": "model=bench; deployment=bench/mock; reason=load; policy=declared",
}


def test_the_configuration_has_the_governance_that_is_claimed():
    """Four limited scopes, a strict budget, four candidates for whatever is asked for, ledger and access log."""
    (organization,) = DOCUMENT["organizations"].values()
    (team,) = organization["teams"].values()
    (key,) = team["keys"].values()
    for scope in (organization, team, key, *DOCUMENT["models"].values()):
        assert set(scope["limits"]) == {"rpm", "tpm", "concurrency"}
    assert team["budget"]["mode"] == "strict"
    models, (route,) = DOCUMENT["models"], DOCUMENT["routes"].values()
    for name in MODELS.keys() - DOCUMENT["routes"].keys():
        assert len(models[name]["deployments"]) == 4
        assert models[name]["price"]["output"] > 0
    assert route["policy"] == "cost_quality"
    # A route that chooses has something to choose among: no two models cost the same, or are best at the same tasks.
    chosen = [models[name] for name in route["models"]]
    assert len(chosen) == len({model["price"]["output"] for model in chosen}) == 4
    assert len({tuple(model["quality"].values()) for model in chosen}) == 4
    assert DOCUMENT["edge"]["access_log"] == "${BENCH_LOG}"


def test_models_do_there_what_they_do_without_a_gateway():
    """Every deployment asks the mock for exactly the behaviour that nginx is given."""
    routes, models = DOCUMENT["routes"], DOCUMENT["models"]
    for name, behaviour in MODELS.items():
        serving = routes[name]["models"] if name in routes else [name]
        names = {each["name"] for model in serving for each in models[model]["deployments"]}
        assert names == {behaviour}


@pytest.fixture
def pretender():
    """Serve as data port and admin port of a gateway; `entries` and `headers` are what it tells."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.tell(server.told_headers, {})

        def do_GET(self):
            self.tell({}, {"entries": server.entries})

        def tell(self, headers, document):
            body = json.dumps(document).encode()
            self.send_response(200)
            for name, value in {**headers, "content-length": len(body)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        server.gateway = gateway.Gateway(url, url, "k", None, 0, "")
        yield server
        server.shutdown()
        thread.join()


def test_a_call_that_is_in_the_ledger_proves_governance(pretender):
    """The entry with its cost comes back."""
    pretender.told_headers, pretender.entries = HEADERS, [{"cost_nusd": 13}]
    assert gateway.prove_governed(pretender.gateway, b"{}") == {"cost_nusd": 13}


@pytest.mark.parametrize(
    ("headers", "entries", "words"),
    [
        ({}, [{"cost_nusd": 13}], "no x-request-id"),
        (HEADERS, [{"cost_nusd": 0}], "no cost"),
        (HEADERS | {"x-penstock-route": "policy=cost_quality"}, [{"cost_nusd": 13}], "policy"),
    ],
)
def test_without_governance_there_is_no_figure(pretender, headers, entries, words):
    """An answer without our headers, another policy than the one that is measured, or an entry without cost, fails the bench."""
    pretender.told_headers, pretender.entries = headers, entries
    with pytest.raises(BenchFailed, match=words):
        gateway.prove_governed(pretender.gateway, b"{}")
