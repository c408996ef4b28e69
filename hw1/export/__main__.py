"""Export a run in timm's folder format, with a model card and as ONNX: hw1 export RUN_DIR [--onnx] [section.key=value ...].

Writes RUN_DIR/export/; an earlier export is replaced once the new one is complete.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw1.config.settings import without_dashes
from hw1.errors import RunError, UserError, run_command
from hw1.runs.folder import RunFolder
from hw1.utils.console import say, show
from hw1.utils.files import replacing_folder

if TYPE_CHECKING:
    from hw1.evaluation.predictor import Predictor

EXIT_CODES = "exit codes: 0 done, 2 a mistake in the command or the run folder, 3 failed, 130 interrupted; nothing is written unless all is"


def parse(argv: Sequence[str], prog: str = "python -m hw1.export") -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("run", metavar="RUN_DIR", help="run folder that hw1 train wrote, runs/<name>/seed<seed>")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="where the data is: data.root=FOLDER")
    parser.add_argument("--checkpoint", choices=("best", "last", "ema"), default="best")
    parser.add_argument("--onnx", action="store_true", help="also model.onnx, checked against torch (needs requirements-onnx.txt)")
    parser.add_argument("--fp16", action="store_true", help="also model_fp16.onnx: half the size; implies --onnx")
    parser.add_argument("--int8", action="store_true", help="also model_int8.onnx, quantized on training images; implies --onnx")
    parser.add_argument("--push-to-hub", metavar="NAME", help="upload it to the Hugging Face hub as a private repository (untested)")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str = "python -m hw1.export") -> None:
    """Run the command."""
    args = parse(argv, prog)
    run = RunFolder.existing(args.run)
    recipe = run.read_recipe([*args.overrides, "train.device=cpu"])
    target = run.path / "export"
    if target.exists() and not (target / "config.json").is_file():
        raise UserError(f"{target}: is no export of a model; move it away")
    has_data = recipe.data.root is not None and Path(recipe.data.root).is_dir()
    if args.int8 and not has_data:
        raise UserError(f"--int8: takes ranges from training images, and data.root is {recipe.data.root}; add data.root=FOLDER")
    formats = [name for name, is_requested in (("fp16", args.fp16), ("int8", args.int8)) if is_requested]

    from hw1.evaluation.predictor import load_predictor  # torch takes seconds to import: only once the arguments are right

    if args.onnx or formats:
        from hw1.export.onnx_graph import require_packages

        require_packages()
        formats.insert(0, "fp32")
    predictor = load_predictor(run, recipe, args.checkpoint)
    with replacing_folder(target) as folder:
        write_export(folder, run, predictor, formats, has_data)
    show(f"{target}: {', '.join(sorted(path.name for path in target.iterdir()))}")
    show(f"open it: hw1 predict {target} IMAGE")
    if args.push_to_hub:
        push_to_hub(target, args.push_to_hub)


def write_export(folder: Path, run: RunFolder, predictor: "Predictor", formats: Sequence[str], has_data: bool) -> None:
    """Write all files of an export.

    Args:
        folder: An empty folder.
        run: The run's folder.
        predictor: Its model.
        formats: ONNX formats, "fp32" first; empty for none.
        has_data: Whether the run's data is there.

    Raises:
        UserError: A file of the run is damaged.
        RunError: The model cannot be exported to ONNX, or the ONNX file differs from torch.
    """
    from hw1.evaluation.temperature import load_temperature
    from hw1.export.model_card import model_card
    from hw1.export.timm_folder import save_timm_folder
    from hw1.predict.classifier import class_names, read_class_descriptions

    fitted = load_temperature(run, predictor.facts)
    temperature = fitted.value if fitted and not fitted.doubt else None
    descriptions = read_class_descriptions(predictor.recipe.data.root, class_names(predictor))
    save_timm_folder(predictor, descriptions, temperature, folder)
    lines: Sequence[str] = ()
    if formats:
        lines = export_onnx(folder, predictor, descriptions, temperature, formats, has_data)
        show("\n".join(lines))
    card = model_card(run, predictor, descriptions, temperature, lines)
    (folder / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")


def export_onnx(
    folder: Path, predictor: "Predictor", descriptions: dict[str, str], temperature: float | None, formats: Sequence[str], has_data: bool
) -> Sequence[str]:
    """Write ONNX files and `onnx_check.json`, their comparison with torch.

    Args:
        folder: Where to write.
        predictor: The model.
        descriptions: What people call the classes, by their names.
        temperature: The fitted temperature; None if there is none to offer.
        formats: "fp32" first, then any of "fp16" and "int8".
        has_data: Whether the run's data is there; without it generated images are compared.

    Returns:
        The comparison as lines of Markdown.

    Raises:
        RunError: The model cannot be exported, or the FP32 file differs from torch.
    """
    import torch

    from hw1.data.augment.eval_resize import EvalRule
    from hw1.export import onnx_check as check
    from hw1.export import onnx_graph as graph
    from hw1.predict.classifier import class_names
    from hw1.predict.torch_model import logits_function

    aug = predictor.recipe.aug
    model = predictor.with_preprocess()
    if not has_data:
        say(f"data.root {predictor.recipe.data.root}: no such folder; ONNX is checked on generated images (data.root=FOLDER)")
    images = check.load_split(predictor, "val", check.MAX_IMAGES) if has_data else check.generate_images(aug.size)
    meta = graph.metadata(class_names(predictor), descriptions, EvalRule.of(aug), temperature)
    engines = {"torch, FP32": logits_function(model, torch.device("cpu"))}
    paths = {"fp32": folder / "model.onnx", "fp16": folder / "model_fp16.onnx", "int8": folder / "model_int8.onnx"}
    for name in formats:
        say(f"writing {paths[name].name}")
        if name == "int8":
            graph.quantize(paths["fp32"], paths[name], check.load_split(predictor, "train", check.NUM_CALIBRATION_IMAGES).pixels)
        else:
            graph.save_onnx(paths[name], model, aug.size, meta, half=name == "fp16")
        engines[paths[name].name] = check.onnx_engine(paths[name])
    comparison = check.compare(engines, images)
    check.require_equal("model.onnx", comparison["model.onnx"])
    sizes = {path.name: path.stat().st_size for path in paths.values() if path.is_file()}
    # "pictures": the key's name since the first version of the file
    content: dict[str, Any] = {"pictures": images.source, "threads": torch.get_num_threads(), "batch_size": check.BATCH_SIZE}
    content["files"] = {name: metrics | ({"bytes": sizes[name]} if name in sizes else {}) for name, metrics in comparison.items()}
    (folder / "onnx_check.json").write_text(json.dumps(content, indent=2) + "\n")
    return check.report_lines(images, comparison, sizes)


def push_to_hub(folder: Path, name: str) -> None:
    """Upload a folder to the Hugging Face hub, with the token that `hf auth login` stored. Untested: it needs the network.

    Raises:
        RunError: The upload fails.
    """
    import huggingface_hub

    try:
        huggingface_hub.create_repo(name, private=True, exist_ok=True)
        huggingface_hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Export of hw1")
    except Exception as error:  # the hub's client and its dependencies have many errors, without a common base
        raise RunError(f"--push-to-hub {name}: {' '.join(str(error).split())[:300]}; the export itself is complete") from error
    print(f"pushed to https://huggingface.co/{name} (private)")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
