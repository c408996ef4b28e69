"""Exported folders and ONNX files that were edited or damaged, each in one way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Edit = Callable[[Path], None]


def config(change: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Edit:
    def edit(folder: Path) -> None:
        content = load_file(folder / "model.safetensors")
        change(content)
        save_file(content, folder / "model.safetensors")

    return edit


def text(content: str) -> Edit:
    return lambda folder: (folder / "config.json").write_text(content) and None


def set_at(*path: str | int, to: Any) -> Edit:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return config(change)


NAN = float("nan")
EDITS: dict[str, tuple[Edit, str]] = {
    "num_classes": (set_at("num_classes", to=5), "num_classes is 5, but there are 4 label_names"),
    "num_classes of the arguments": (set_at("model_args", "num_classes", to=9), "model_args.num_classes is 9"),
    "num_classes everywhere": (
        config(lambda c: [part.update(num_classes=3) for part in (c, c["model_args"], c["pretrained_cfg"])]), "num_classes is 3",
    ),
    "a class more everywhere": (
        config(lambda c: [c["label_names"].append("x"), *(p.update(num_classes=5) for p in (c, c["model_args"], c["pretrained_cfg"]))]),
        "is not of the model in config.json: fc.bias is [4] and [5]",
    ),
    "one class less": (config(lambda c: c["label_names"].pop()), "num_classes is 4, but there are 3 label_names"),
    "a class twice": (set_at("label_names", 1, to="ant"), "no list of different names"),
    "a class that is a number": (set_at("label_names", 1, to=7), "no list of different names"),
    "classes in a word": (set_at("label_names", to="abcd"), "no list of different names"),
    "a description that is a list": (set_at("label_descriptions", to={"ant": []}), "descriptions of the classes are no text"),
    **{f"temperature {t}": (set_at("hw1", "temperature", to=t), "must be a number above 0") for t in (0, -1, NAN, float("inf"), "2", True)},
    **{f"std {s}": (set_at("pretrained_cfg", "std", 1, to=s), "std") for s in (0, -0.2, NAN, "x")},
    "mean NaN": (set_at("pretrained_cfg", "mean", 0, to=NAN), "mean"),
    "two means": (set_at("pretrained_cfg", "mean", to=[0.5, 0.5]), "mean"),
    "a size of 10,000,000": (set_at("pretrained_cfg", "input_size", to=[3, 10**7, 10**7]), "size"),
    "an oblong size": (set_at("pretrained_cfg", "input_size", to=[3, 40, 50]), "input_size [3, 40, 50]"),
    "one channel": (set_at("model_args", "in_chans", to=1), "input_size"),
    "layers": (set_at("model_args", "layers", to=[1_000_000, 2, 2, 2]), "model_args: layers"),
    "depth": (set_at("model_args", "depth", to=10**9), "model_args: depth"),
    "channels": (set_at("model_args", "channels", to=[10**9] * 4), "model_args: channels"),
    "block": (set_at("model_args", "block", to="os.system"), "model.name: resnet18_half_cbam fails"),
    "pretrained": (set_at("model_args", "pretrained", to=True), "model_args: pretrained"),
    "checkpoint_path": (set_at("model_args", "checkpoint_path", to="/etc/passwd"), "model_args: checkpoint_path"),
    "cbam_stages": (set_at("model_args", "cbam_stages", to=[1, 2, 3, 4]), "is not of the model in config.json: layer1.cbam."),
    "cbam_stages 9": (set_at("model_args", "cbam_stages", to=[9]), "cbam_stages"),
    "cbam_reduction 0": (set_at("model_args", "cbam_reduction", to=0), "cbam_reduction"),
    "cbam_kernel": (set_at("model_args", "cbam_kernel", to=2**31 - 1), "cbam_kernel"),
    "drop_layer3": (set_at("model_args", "drop_layer3", to=2), "drop_layer3"),
    "another architecture": (set_at("architecture", to="resnet18"), "config.json: "),
    "no architecture": (set_at("architecture", to="os.path"), "timm has no model 'os'"),
    "amp": (set_at("hw1", "amp", to="fp4"), "amp"),
    "nothing of hw1": (config(lambda c: c.pop("hw1")), "not written by hw1 export, or changed since (KeyError: 'hw1')"),
    "model_args a list": (set_at("model_args", to=[]), "not written by hw1 export"),
    "a list": (text("[]"), "not written by hw1 export"),
    "deep nesting": (text("[" * 200_000 + "]" * 200_000), "not written by hw1 export"),
    "cut off": (text('{"architecture": '), "not written by hw1 export"),
    "no UTF-8": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{") and None, "not written by hw1 export"),
    "a weight NaN": (tensors(lambda t: t["fc.weight"].view(-1)[5:6].fill_(NAN)), "fc.weight holds what is not a finite number"),
    "a weight infinite": (tensors(lambda t: t["layer1.0.conv1.weight"].view(-1)[:1].fill_(float("inf"))), "not a finite number"),
    "a negative variance": (tensors(lambda t: t["bn1.running_var"].fill_(-1)), "the model's answer is not a finite number"),
    "a tensor absent": (tensors(lambda t: t.pop("fc.bias")), "fc.bias is absent and [4]"),
    "a tensor more": (tensors(lambda t: t.update(extra=torch.zeros(3))), "extra is [3] and absent"),
    "a tensor of another shape": (tensors(lambda t: t.update({"fc.bias": torch.zeros(7)})), "fc.bias is [7] and [4]"),
    "weights absent": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: cannot be read"),
    "weights cut off": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000]) and None,
        "model.safetensors: cannot be read",
    ),
}  # fmt: skip
"""Name -> the edit of a folder of four classes with `resnet18_half_cbam` at 40 pixels, and a part of the line that refuses it."""
