"""Commands in an empty home leave it empty, reach nobody, and write what was named and no more."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", exc_type=ImportError)

from bundle_factory import write_tiny
from command_line import CTEDGE
from patience import PATIENCE_S
from scan_factory import write_scan

#: Run by every Python that starts: says on standard error whom it would reach, and by which name.
TELLS = """
import sys

def tell(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        print("REACHES", event, arguments[-1], file=sys.stderr)

sys.addaudithook(tell)
"""

#: The same for files of Keras, which need not be there to be looked for.
OPENS = """
import sys
seen = []

def see(event, told):
    if event in ("open", "os.mkdir"):
        seen.append(str(told[0]))

sys.addaudithook(see)
from ctedge.extras import import_package
import_package("keras")
print([path for path in seen if path.startswith("/tmp/.keras")])
"""

COMMANDS = {
    "doctor": ["doctor", "{model}"],
    "onnxruntime": ["predict", "{scan}", "-m", "{model}", "--runtime", "onnxruntime"],
    "openvino": ["predict", "{scan}", "-m", "{model}", "--runtime", "openvino"],
    "assess": ["predict", "{scan}", "-m", "{model}", "--assess"],
    "maps": ["predict", "{scan}", "-m", "pneumonia", "--heatmap", "a.nii.gz", "--overlay", "b.png"],
    "bench": [
        "bench",
        "{model}",
        "{scan}",
        "--repeats",
        "2",
        "--plot",
        "a.png",
        "--json",
        "b.json",
    ],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_reached_and_nothing_stays_but_what_was_named(tmp_path, command):
    for optional in {"openvino": ["openvino"], "assess": ["scipy"]}.get(command, []):
        pytest.importorskip(optional, exc_type=ImportError)
    scan, model = write_scan(tmp_path / "scan.nii.gz", 1), write_tiny(tmp_path / "tiny.ctedge").path
    named = {word for word in COMMANDS[command] if word[:2] in {"a.", "b."}}
    places = {name: tmp_path / name for name in ("home", "temporary", "here", "tells")}
    for place in places.values():
        place.mkdir()
    (places["tells"] / "sitecustomize.py").write_text(TELLS)
    answer = subprocess.run(
        [*CTEDGE, *(word.format(scan=scan, model=model) for word in COMMANDS[command])],
        env={
            "HOME": str(places["home"]),
            "TMPDIR": str(places["temporary"]),
            "PYTHONPATH": str(places["tells"]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": "",
        },
        cwd=places["here"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    assert "REACHES" not in answer.stderr
    assert left(places["home"]) == left(places["temporary"]) == set()
    assert left(places["here"]) == named


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.skipif(find_spec("keras") is None, reason="needs Keras")
@pytest.mark.parametrize("home", ["{}/absent", "~"], ids=["absent", "of nobody"])
def test_settings_that_others_may_have_put_are_not_read(tmp_path, home):
    # "~" stays what it is where neither HOME nor an account names a folder: so it does here.
    answer = subprocess.run(
        [sys.executable, "-c", OPENS],
        env={"PATH": "", "KERAS_BACKEND": "numpy", "HOME": home.format(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["[]"]
