"""Evaluate a run on labelled images, or predict unlabelled ones."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from hw1.config.recipe import Recipe
from hw1.config.settings import without_dashes
from hw1.data.folders import require_root
from hw1.errors import UserError
from hw1.runs.folder import RunFolder
from hw1.utils.console import say

if TYPE_CHECKING:
    from hw1.evaluation.predictor import Predictor


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run folder that train wrote, runs/<name>/seed<seed>")
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
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command."""
    args = parse(argv, prog)
    runs = [RunFolder.existing(path) for path in (args.run, *args.others)]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError("--with: names a run twice")
    recipe = runs[0].read_recipe(args.overrides)
    if (args.tta or args.others) and args.temperature == "fitted":
        raise UserError("--temperature fitted: belongs to one run's own answers; leave it out, or give a number, with --tta and --with")
    if args.split in ("train", "val") and recipe.data.dataset is None and recipe.data.root is not None:
        require_root(recipe.data.root)
    evaluate_runs(args, runs, recipe)


def evaluate_runs(args: argparse.Namespace, runs: Sequence[RunFolder], recipe: Recipe) -> None:
    """Predict the split with every run, and write what that says to the first one's folder.

    Args:
        args: The command line.
        runs: The runs that are averaged, or one.
        recipe: Of the first run, with the command line's overrides.
    """
    from hw1.attention.figure_rows import (
        plot_attention_examples,  # torch and OpenCV take seconds to import: only once the arguments are right
    )
    from hw1.data.bad_images import check_images
    from hw1.data.image_folder import find_split
    from hw1.data.passed_over import describe_passed_over
    from hw1.evaluation.ensemble import mean_predictions
    from hw1.evaluation.report.analysis import analyse
    from hw1.evaluation.report.examples import choose_for_attention
    from hw1.evaluation.report.write import write_evaluation
    from hw1.evaluation.submission import check_names, save_submission

    run, averaged = runs[0], bool(args.tta or args.others)
    predictors = load_predictors(args, runs)
    predictor, classes = predictors[0], predictors[0].classes
    images, name = find_split(args.split, recipe.data, classes, recipe.seed)
    if passed_over := describe_passed_over(images):
        say(passed_over)
    labelled = images.labels is not None
    out = run.eval_dir(name + (f"-mean{len(runs)}" if args.others else "") + (f"-{args.tta}" if args.tta else ""))
    fits = labelled and out == run.eval_dir("val")
    temperature, fitted = choose_temperature(args, run, predictor, fits=fits)
    [images] = check_images([images], "skip" if args.skip_bad else "stop", "--skip-bad")
    names = [] if labelled else check_names(images, full_names=args.full_names)
    answers = [each.predict(images, desc=args.split, tta=args.tta) for each in predictors]
    predictions = mean_predictions(answers) if args.others else answers[0]
    if not labelled:
        save_submission(out, names, predictions, classes, temperature)
        print(f"{out}: prediction.csv with {len(images)} rows, submission.zip, confidence.csv")
        return
    facts = {**predictor.facts, **({"tta": args.tta, "runs": [str(each.path) for each in runs]} if averaged else {})}
    logits, labels = predictions.logits, predictions.labels
    analysis = analyse(
        logits, labels, images.files, classes.names, facts, temperature=temperature, fitted_temperature=fitted, fit_temperature=fits
    )
    attention = None if averaged else plot_attention_examples(predictor, images, choose_for_attention(analysis))
    write_evaluation(out, run, args.split, images, logits, analysis, attention)
    predictions.save(out / "predictions.npz", files=images.files, class_names=classes.names)
    print(f"{args.split}: {describe(analysis.metrics)}")
    print(f"{out / 'index.html'}: mistakes, calibration and classes with images; metrics.json, *.csv, *.png beside it")


def load_predictors(args: argparse.Namespace, runs: Sequence[RunFolder]) -> "list[Predictor]":
    """Load the model of every run.

    Raises:
        UserError: One has other classes than the first.
    """
    from hw1.evaluation.predictor import load_predictor

    predictors = [load_predictor(run, run.read_recipe(args.overrides), args.checkpoint) for run in runs]
    for run, predictor in zip(runs, predictors, strict=True):
        if predictor.classes != predictors[0].classes:
            what = f"its classes are not those of {runs[0].path}; only runs on the same classes can be averaged"
            raise UserError(f"--with {run.path}: {what}")
    return predictors


def choose_temperature(args: argparse.Namespace, run: RunFolder, predictor: "Predictor", *, fits: bool) -> tuple[float, float | None]:
    """Choose the temperature that the logits are divided by.

    Args:
        args: The command line.
        run: The run that is evaluated.
        predictor: Its model.
        fits: Whether this evaluation will fit a temperature itself.

    Returns:
        The temperature, and the one that an earlier evaluation fitted, where that matters.

    Raises:
        UserError: The fitted one is asked for, and there is none.
    """
    from hw1.evaluation.predictor import load_temperature

    averaged = bool(args.tta or args.others)
    fitted = None if averaged or (fits and args.temperature != "fitted") else load_temperature(run, predictor.facts)
    temperature = fitted if args.temperature == "fitted" else args.temperature
    if temperature is None:
        command = f"python -m hw1 validate {run.path} --checkpoint {args.checkpoint}"
        raise UserError(f"--temperature fitted: none was fitted for these weights of the run; `{command}` does")
    return temperature, fitted


def describe(metrics: dict[str, Any]) -> str:
    """Return the numbers that matter most, in one line."""
    low, high = metrics["top1_interval"]
    return (
        f"top-1 {metrics['top1']:.4f} (95% {low:.4f} to {high:.4f})  top-5 {metrics['top5']:.4f}  loss {metrics['loss']:.4f}"
        f"  ECE {metrics['ece']:.4f}  on {metrics['num_images']} images, {metrics['checkpoint']} checkpoint (epoch {metrics['epoch']})"
    )


def parse_temperature(text: str) -> float | Literal["fitted"]:
    """Parse `--temperature`.

    Raises:
        ValueError: It is neither "fitted" nor a finite number above 0.
    """
    if text == "fitted":
        return "fitted"
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value
