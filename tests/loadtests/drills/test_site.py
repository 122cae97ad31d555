"""Laws of the site: its configuration is one that the gateway takes, and its processes are found and killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from config.loader import check_text
from loadtests.drills.site import configuration, key_of, kill, processes, tariffs, wait_until_gone


def test_the_configuration_has_no_mistakes():
    """With further callers, and with a store of the drill's own."""
    text = configuration(
        "http://127.0.0.1:1", edges=4, store="unix:///tmp/x.sock", keys={"killed": 60}
    )
    found = check_text(text, source="drill", environ={})
    # Secrets are better kept out of a file; these open nothing.
    assert {problem.severity for problem in found} == {"warning"}
    keys = json.loads(text)["organizations"]["drill"]["teams"]["one"]["keys"]
    assert keys["killed"] == {"key": key_of("killed"), "limits": {"rpm": 60}}


def test_every_deployment_has_its_tariff():
    """By the id that the ledger shows, with the pause that its upstream name asks for."""
    found = tariffs()
    assert found["paced/mock#2"].upstream == "b;tokens=60;interval_ms=20"
    assert found["paced/mock#2"].interval_ms == 20
    assert found["flaky/mock"].interval_ms == 0


def test_processes_are_known_by_their_directory(tmp_path: Path):
    """Those of this installation, until they are killed; nobody else's."""
    ours = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, "PENSTOCK_VAR": str(tmp_path)},
    )
    try:
        while ours.pid not in processes(tmp_path):
            assert ours.poll() is None
        assert os.getpid() not in processes(tmp_path)
        assert kill(ours.pid)
    finally:
        ours.kill()
        ours.wait()
    assert wait_until_gone(tmp_path) == {}
    assert not kill(ours.pid)
