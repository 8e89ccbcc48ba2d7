"""`ctedge batch` on one machine asks nobody outside of it, and says what this one lacks."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec

import pytest

if find_spec("ray") is None or sys.platform != "linux":
    pytest.skip("needs Ray, and Linux", allow_module_level=True)
pytest.importorskip("pyarrow", exc_type=ImportError)

from bundle_factory import write_tiny
from command_line import run
from ctedge import RuntimeUnavailable
from ctedge.batch.run import run_batch
from patience import PATIENCE_S
from scan_factory import write_scan

#: An application that judges a table, and then uses the network as before.
EMBEDS = """
import os, sys
from pathlib import Path
from ctedge.batch.run import run_batch
folder = Path(sys.argv[1])
table, output, model = (folder / name for name in ("scans.csv", "results.parquet", "tiny.ctedge"))
found = run_batch(table, output, model=str(model), runtime="onnxruntime", device="cpu", workers=1)
print(found.answered, os.environ["http_proxy"], os.environ.get("https_proxy"))
"""


@pytest.fixture
def job(tmp_path):
    """A table of one scan, and a model."""
    write_scan(tmp_path / "scan.nii.gz", 1)
    (tmp_path / "scans.csv").write_text("scan\nscan.nii.gz\n")
    write_tiny(tmp_path / "tiny.ctedge")
    return tmp_path


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Writes down what it is asked for, and has nothing."""

    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        self.send_error(404)

    do_CONNECT = do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def proxy():
    """Its address, and the list of what it is asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Proxy,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_no_machine_outside_is_asked_whose_this_one_is(job):
    home = job / "home"
    home.mkdir()
    # Whoever asks over HTTP asks the proxy. The names of Ray's sockets have to be short.
    with proxy() as (address, asked), tempfile.TemporaryDirectory(dir="/tmp") as room:
        answer = subprocess.run(
            [sys.executable, "-c", EMBEDS, job],
            env={"HOME": str(home), "PATH": "", "http_proxy": address, "RAY_TMPDIR": room},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["1", address, "None"]
    assert asked == []
    assert list(home.iterdir()) == []


def test_where_processes_cannot_reach_each_other_it_does_not_wait_for_ever(job, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(101, "Network is unreachable")  # as of a loopback interface that is down

    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(RuntimeUnavailable, match="cannot reach each other") as caught:
        run_batch(job / "scans.csv", job / "results.parquet", model=str(job / "tiny.ctedge"))
    assert "Network is unreachable" in str(caught.value)
    assert "loopback" in str(caught.value)


def test_a_folder_that_ray_cannot_have_is_named(job, monkeypatch):
    taken = job / "taken"
    taken.write_text("a file")
    monkeypatch.setenv("RAY_TMPDIR", str(taken))
    words = [job / "scans.csv", "-o", job / "results.parquet", "-m", job / "tiny.ctedge"]
    answer = run("batch", *words)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: Ray can have no folder in ")
    assert "RAY_TMPDIR" in answer.stderr
