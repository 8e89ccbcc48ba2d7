"""`ctedge export triton`: what lies in the repository, what is added to it, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import TensorProto, helper
from typer.testing import CliRunner

from bundle_factory import write_tiny
from conftest import REPOSITORY
from ctedge import __version__
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    BundleNotFound,
    CTEdgeError,
    InvalidBundle,
    OutputError,
    WrongTask,
)
from ctedge.lung_spec import LUNG_LABELS
from ctedge_export.cli import app
from ctedge_export.writer import write_bundle
from lungmask_factory import SMALL


def export(*arguments: object) -> str:
    """What the command says; its error raised."""
    answer = CliRunner().invoke(app, ["triton", *map(str, arguments)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.output


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(kind: type[CTEdgeError], *arguments: object) -> CTEdgeError:
    with pytest.raises(kind) as caught:
        export(*arguments)
    assert type(caught.value) is kind
    assert caught.value.fix
    return caught.value


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_tiny(tmp_path_factory.mktemp("triton") / "tiny.ctedge")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_three_models_and_where_they_come_from(tiny, repo):
    output = export(tiny.path, "-o", repo)
    assert output.splitlines()[-1] == str(repo)
    assert f"ctedge=={__version__}" in output
    files = files_of(repo)
    assert set(files) == {
        "PROVENANCE.json",
        "tiny/1/.keep",
        "tiny/config.pbtxt",
        "tiny/labels.txt",
        "tiny_network/1/model.onnx",
        "tiny_network/config.pbtxt",
        "tiny_preprocess/1/model.py",
        "tiny_preprocess/config.pbtxt",
    }
    assert files["tiny_network/1/model.onnx"] == tiny.model
    assert files["tiny/labels.txt"] == b"abnormal\n"
    told = json.loads(files.pop("PROVENANCE.json"))["models"]["tiny"]
    assert told["ctedge"] == __version__
    assert told["bundle"]["digest"] == tiny.digest
    assert told["bundle"]["members"]["model.onnx"] == hashlib.sha256(tiny.model).hexdigest()
    assert told["network"]["runs"] == "onnxruntime-cpu-fp32"
    assert told["files"] == {name: hashlib.sha256(files[name]).hexdigest() for name in files}


def test_equal_exports_make_equal_repositories(tiny, tmp_path):
    first, second = tmp_path / "one", tmp_path / "two" / "deeper"
    export(tiny.path, "-o", first)
    export(tiny.path, "-o", second)
    assert files_of(first) == files_of(second)


def test_a_repository_takes_further_models(tiny, repo, tmp_path):
    export(tiny.path, "-o", repo)
    (repo / "somebody" / "1").mkdir(parents=True)
    (repo / "somebody" / "config.pbtxt").write_text('name: "somebody"\n')
    before = files_of(repo)
    write_tiny(tmp_path / "other.ctedge", task="severity")
    export(tmp_path / "other.ctedge", "-o", repo)
    after = files_of(repo)
    models = json.loads(after["PROVENANCE.json"])["models"]
    assert models["tiny"] == json.loads(before.pop("PROVENANCE.json"))["models"]["tiny"]
    assert set(models) == {"tiny", "other"}
    assert before.items() <= after.items()
    assert (repo / "somebody" / "1").is_dir()
    assert "other/labels.txt" not in after
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_model_is_replaced_only_when_asked(tiny, repo, tmp_path):
    export(tiny.path, "-o", repo)
    (repo / "tiny" / "leftover").write_bytes(b"")
    changed = write_tiny(tmp_path / "tiny.ctedge", labels=["healthy", "ill"])
    before = files_of(repo)
    assert "--overwrite" in str(refused(OutputError, changed.path, "-o", repo))
    assert files_of(repo) == before
    export(changed.path, "-o", repo, "--overwrite")
    after = files_of(repo)
    assert after["tiny/labels.txt"] == b"ill\n"
    assert "tiny/leftover" not in after


def test_folders_of_others_are_left_alone(tiny, repo, tmp_path):
    repo.mkdir()
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    assert list(repo.iterdir()) == []
    (repo / "PROVENANCE.json").write_text('{"schema_version": 2, "models": {}}')
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    (repo / "PROVENANCE.json").write_text('{"schema_version": 1, "models": {}}')
    (repo / "tiny_network").mkdir()
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    (repo / "tiny_network").rmdir()
    link = tmp_path / "link"
    link.symlink_to(repo)
    refused(OutputError, tiny.path, "-o", link)
    export(tiny.path, "-o", repo)
    part = write_tiny(tmp_path / "tiny_network.ctedge")
    assert "the model tiny" in str(refused(OutputError, part.path, "-o", repo, "--overwrite"))


def test_nothing_is_left_where_it_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    refused(OutputError, tiny.path, "-o", tmp_path / "file")
    refused(OutputError, tiny.path, "-o", tmp_path / "file" / "models")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    export(tiny.path, "-o", tmp_path / "models")
    before = files_of(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    refused(OutputError, tiny.path, "-o", tmp_path / "models", "--overwrite")
    refused(OutputError, tiny.path, "-o", tmp_path / "new")
    monkeypatch.undo()
    assert files_of(tmp_path) == before


def lung_bundle(path: Path) -> Path:
    """A network for lungs that calls every pixel everything."""
    shape = [len(LUNG_LABELS), *SMALL.shape]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Concat", ["image"] * shape[0], ["logits"], "logits", axis=1)],
        "lungs",
        [value("image", TensorProto.FLOAT, ["batch", 1, *SMALL.shape])],
        [value("logits", TensorProto.FLOAT, ["batch", *shape])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    description = {
        "task": "lungs",
        "labels": list(LUNG_LABELS),
        "threshold": None,
        "spec": SMALL.to_json(),
        "model": {
            "member": "model.onnx",
            "opset": 17,
            "input": {"name": "image", "shape": [1, *SMALL.shape]},
            "outputs": [{"name": "logits", "shape": shape}],
        },
        **{key: {} for key in ("metrics", "provenance", "gates")},
        "golden": [],
    }
    members = {"model.onnx": model.SerializeToString()}
    return write_bundle(path, description=description, members=members).path


def test_what_is_no_bundle_of_a_judge_is_refused(tiny, repo, tmp_path):
    refused(BundleNotFound, tmp_path / "nothing.ctedge", "-o", repo)
    refused(InvalidBundle, tmp_path, "-o", repo)
    found = refused(WrongTask, lung_bundle(tmp_path / "lungs.ctedge"), "-o", repo)
    assert "LungSegmenter" in str(found)
    spoilt = write_tiny(tmp_path / "spoilt.ctedge")
    (spoilt.path / "model.onnx").write_bytes(spoilt.model + b"\0")
    refused(InvalidBundle, spoilt.path, "-o", repo)
    assert not repo.exists()


def test_the_page_names_options_that_exist():
    page = (REPOSITORY / "docs" / "triton.md").read_text()
    fences = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    commands = [line for kind, code in fences if kind == "sh" for line in code.splitlines()]
    named = {word for line in commands if "export triton" in line for word in line.split()}
    known = CliRunner().invoke(app, ["triton", "--help"]).output
    assert {word for word in named if word.startswith("--")} <= set(known.split())
    (client,) = (code for kind, code in fences if kind == "python")
    compile(client, "docs/triton.md", "exec")
