"""An exported folder or ONNX file that was edited is refused in one line, before it costs time or memory."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.edited_exports import EDITS
from helpers.model_runs import call, make_run

import hw1.export.__main__ as export
from hw1.predict.__main__ import main

NAMES = ["ant", "bee", "cow", "dog"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs"), None, NAMES)
    assert call(export.main, run.path).returncode == 0
    return run.path / "export"


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_folder_is_refused_in_one_line(exported, image, tmp_path, name):
    edit, message = EDITS[name]
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    edit(folder)
    started = time.process_time()
    result = call(main, folder, image, "--out", tmp_path / "p.csv")
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1), result.stderr
    assert result.stderr.startswith(str(folder))
    assert message in result.stderr
    assert time.process_time() - started < 10
    assert not (tmp_path / "p.csv").exists()


def test_what_a_person_may_change_is_taken(exported, image, tmp_path):
    shutil.copytree(exported, tmp_path / "export")
    before = call(main, tmp_path / "export", image, "--top", "4").stdout
    path = tmp_path / "export/config.json"
    content = json.loads(path.read_text())
    content["label_descriptions"] = {name: f"a {name}\u2029\x1b[31m" for name in NAMES}
    content["global_pool"] = "max"  # no reader of ours takes the network from it
    path.write_text(json.dumps(content))
    after = call(main, tmp_path / "export", image, "--top", "4").stdout
    assert after == before.replace("  ", "  a ").replace(" 0.", " ?[31m 0.")


def test_an_edited_onnx_file_is_refused_in_one_line(exported, image, tmp_path):
    onnx = pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
    pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
    from onnx import TensorProto, helper

    def write(*, names: object = NAMES, temperature: object = None, bias: float = 0.0, size: int = 8, **meta: str) -> Path:
        """A classifier by the mean of three channels and a bias."""
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", size, size, 3])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
        weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 4], np.arange(12.0))
        offset = helper.make_tensor("offset", TensorProto.FLOAT, [4], [bias, 0, 0, 0])
        axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["product"]),
            helper.make_node("Add", ["product", "offset"], ["logits"]),
        ]
        graph = helper.make_graph(nodes, "g", [image], [logits], [weights, offset, axes])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        content = {"class_names": json.dumps(names), "class_descriptions": "{}"} | meta
        helper.set_model_props(model, content if temperature is None else {**content, "temperature": str(temperature)})
        onnx.save_model(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    good = call(main, write(temperature=2.0, size=16), image)
    assert good.returncode == 0, good.stderr
    cases = {
        **{f"temperature {t}": ({"temperature": t}, "must be a number above 0") for t in (0, -1, float("nan"), float("inf"))},
        "temperature a word": ({"temperature": "warm"}, "not written by hw1 export"),
        "a class more": ({"names": [*NAMES, "x"]}, "(4 outputs, but 5 class names)"),
        "a class less": ({"names": NAMES[1:]}, "(4 outputs, but 3 class names)"),
        "a class twice": ({"names": ["ant"] * 4}, "no list of different names"),
        "NaN": ({"bias": float("nan"), "size": 16}, "the model's answer is not a finite number"),
        "deep names": ({"class_names": "[" * 200_000}, "not written by hw1 export"),
        "size": ({"size": 100_000}, "size"),
        "descriptions": ({"class_descriptions": "[1]"}, "descriptions of the classes are no text"),
    }
    for name, (change, message) in cases.items():
        result = call(main, write(**{"size": 16, **change}), image)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), (name, result.stdout, result.stderr)
        assert message in result.stderr, name
