#!/usr/bin/env python
"""Evaluates a run on labelled images, or predicts unlabelled ones: python validate.py RUN_DIR [--split val|test|DIR]"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal

from hw1.errors import UserError, run_command
from hw1.runs.folder import RunFolder


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run folder that train.py wrote, runs/<name>/seed<seed>")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="where and how to run: data.root, train.device, ...")
    parser.add_argument("--split", default="val", metavar="val|test|DIR", help="split of the run's data, or any folder (default: val)")
    parser.add_argument("--checkpoint", choices=("best", "last", "ema"), default="best")
    parser.add_argument(
        "--temperature",
        type=parse_temperature,
        default=1.0,
        metavar="fitted|NUMBER",
        help="divide the logits by the one that an earlier evaluation of val fitted, or by a number above 0 (default: 1)",
    )
    parser.add_argument(
        "--tta",
        choices=("flip", "crops"),
        help="mean probability over each image and its mirror image, or its five crops; eval/<split>-<tta>/",
    )
    parser.add_argument(
        "--with",
        dest="others",
        nargs="+",
        default=[],
        metavar="RUN_DIR",
        help="mean probability of this run and these, of the same classes; overrides stand before it; eval/<split>-mean<number of runs>/",
    )
    parser.add_argument("--full-names", action="store_true", help="unlabelled images: keep the extension in image_name")
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read instead of stopping")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    run, *_ = runs = [RunFolder.existing(path) for path in (args.run, *args.others)]
    if len({each.path.resolve() for each in runs}) < len(runs):
        raise UserError("--with: names a run twice")
    recipe = run.read_recipe(args.overrides)

    # torch and OpenCV take seconds to import: only once the arguments are right
    from hw1.attention.figure_rows import plot_attention_examples
    from hw1.data.decode import check_images
    from hw1.data.image_folder import find_split
    from hw1.evaluation.ensemble import mean_predictions
    from hw1.evaluation.predictor import load_predictor, load_temperature
    from hw1.evaluation.report.analysis import analyse
    from hw1.evaluation.report.examples import choose_for_attention
    from hw1.evaluation.report.write import write_evaluation
    from hw1.evaluation.submission import check_names, save_submission

    averaged = bool(args.tta or args.others)
    if averaged and args.temperature == "fitted":
        raise UserError("--temperature fitted: belongs to one run's own answers; leave it out, or give a number, with --tta and --with")
    predictor, *others = (load_predictor(each, each.read_recipe(args.overrides), args.checkpoint) for each in runs)
    for other, each in zip(others, runs[1:], strict=True):
        if other.classes != predictor.classes:
            raise UserError(f"--with {each.path}: its classes are not those of {run.path}; only runs on the same classes can be averaged")
    images, name = find_split(args.split, recipe.data, predictor.classes, recipe.seed)
    labelled = images.labels is not None
    out = run.eval_dir(name + (f"-mean{len(runs)}" if args.others else "") + (f"-{args.tta}" if args.tta else ""))
    fits = labelled and out == run.eval_dir("val")
    fitted = None if averaged or (fits and args.temperature != "fitted") else load_temperature(run, predictor.facts)
    temperature = fitted if args.temperature == "fitted" else args.temperature
    if temperature is None:
        command = f"python validate.py {run.path} --checkpoint {args.checkpoint}"
        raise UserError(f"--temperature fitted: none was fitted for these weights of the run; `{command}` does")
    [images] = check_images([images], "skip" if args.skip_bad else "stop", "--skip-bad")
    names = [] if labelled else check_names(images, full_names=args.full_names)
    predictions = predictor.predict(images, desc=args.split, tta=args.tta)
    if others:
        predictions = mean_predictions([predictions, *(each.predict(images, desc=args.split, tta=args.tta) for each in others)])
    if labelled:
        analysis = analyse(
            predictions.logits,
            predictions.labels,
            images.files,
            predictor.classes.names,
            {**predictor.facts, **({"tta": args.tta, "runs": [str(each.path) for each in runs]} if averaged else {})},
            temperature=temperature,
            fitted_temperature=fitted,
            fit_temperature=fits,
        )
        attention = None if averaged else plot_attention_examples(predictor, images, choose_for_attention(analysis))
        write_evaluation(out, run, args.split, images, predictions.logits, analysis, attention)
        predictions.save(out / "predictions.npz", files=images.files, class_names=predictor.classes.names)
        print(f"{args.split}: {describe(analysis.metrics)}")
        print(f"{out / 'index.html'}: mistakes, calibration and classes with images; metrics.json, *.csv, *.png beside it")
    else:
        save_submission(out, names, predictions, predictor.classes, temperature)
        print(f"{out}: prediction.csv with {len(images)} rows, submission.zip, confidence.csv")


def describe(metrics: dict[str, Any]) -> str:
    """The numbers that matter most, in one line."""
    low, high = metrics["top1_interval"]
    return (
        f"top-1 {metrics['top1']:.4f} (95% {low:.4f} to {high:.4f})  top-5 {metrics['top5']:.4f}  loss {metrics['loss']:.4f}"
        f"  ECE {metrics['ece']:.4f}  on {metrics['num_images']} images, {metrics['checkpoint']} checkpoint (epoch {metrics['epoch']})"
    )


def parse_temperature(text: str) -> float | Literal["fitted"]:
    """`--temperature`: raises `ValueError` unless it is "fitted" or a finite number above 0."""
    if text == "fitted":
        return "fitted"
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
