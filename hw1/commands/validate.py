"""Evaluate a run on labelled images, or predict unlabelled ones."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw1.config.recipe import Recipe
from hw1.config.settings import without_dashes
from hw1.data.folders import require_root
from hw1.errors import UserError
from hw1.evaluation.temperature import add_temperature_option
from hw1.runs.folder import RunFolder
from hw1.utils.console import say, show
from hw1.utils.files import missing_file, write_folder

if TYPE_CHECKING:
    from hw1.data.image_set import ImageSet
    from hw1.evaluation.predictions import Predictions
    from hw1.evaluation.predictor import Predictor
    from hw1.evaluation.sample_submission import SampleSubmission
    from hw1.evaluation.temperature import FittedTemperature

SUBMISSION = "submission.csv"


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run folder that hw1 train wrote, runs/<name>/seed<seed>")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="where and how to run: data.root, train.device, ...")
    parser.add_argument("--split", default="val", metavar="val|test|DIR", help="split of the run's data, or any folder (default: val)")
    parser.add_argument("--checkpoint", choices=("best", "last", "ema"), default="best")
    add_temperature_option(parser)
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
    parser.add_argument(
        "--sample-submission",
        metavar="FILE",
        help="also submission.csv, in the shape of this table: its ids, their order, its header; labels, or a probability for each class",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read instead of stopping")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command."""
    carry_out(parse(argv, prog))


def carry_out(args: argparse.Namespace) -> Path:
    """Do what the parsed command line asks for; return the folder that was written."""
    runs = [RunFolder.existing(path) for path in (args.run, *args.others)]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError("--with: names a run twice")
    recipe = runs[0].read_recipe(args.overrides)
    if (args.tta or args.others) and args.temperature == "fitted":
        raise UserError("--temperature fitted: belongs to one run's own answers; leave it out, or give a number, with --tta and --with")
    if args.split in ("train", "val") and recipe.data.dataset is None and recipe.data.root is not None:
        require_root(recipe.data.root)
    if missing := missing_file("--sample-submission", args.sample_submission):
        raise UserError(*missing)
    return evaluate_runs(args, runs, recipe)


def evaluate_runs(args: argparse.Namespace, runs: Sequence[RunFolder], recipe: Recipe) -> Path:
    """Predict the split with every run, and write what that says to a folder of the first one's, which is returned.

    Args:
        args: The command line.
        runs: The runs that are averaged, or one.
        recipe: Of the first run, with the command line's overrides.
    """
    from hw1.data.bad_images import check_images  # torch and OpenCV take seconds to import: only once the arguments are right
    from hw1.data.image_folder import find_split
    from hw1.data.passed_over import describe_passed_over
    from hw1.evaluation.ensemble import mean_predictions
    from hw1.evaluation.submission import check_names, submission_files
    from hw1.evaluation.temperature import choose_temperature, load_temperature

    run, predictors = runs[0], load_predictors(args, runs)
    predictor, classes = predictors[0], predictors[0].classes
    images, name = find_split(args.split, recipe.data, classes, recipe.seed)
    if passed_over := describe_passed_over(images):
        say(passed_over)
    labelled = images.labels is not None
    out = run.eval_dir(name + (f"-mean{len(runs)}" if args.others else "") + (f"-{args.tta}" if args.tta else ""))
    is_val = labelled and out == run.eval_dir("val")  # where a temperature is fitted anew
    needs_none = args.tta or args.others or (is_val and args.temperature != "fitted")
    fitted = None if needs_none else load_temperature(run, predictor.facts)
    temperature = choose_temperature(args.temperature, fitted)
    [images] = check_images([images], "skip" if args.skip_bad else "stop", "--skip-bad")
    names = [] if labelled else check_names(images, full_names=args.full_names)
    sample = read_sample_submission(args, predictor, images)
    say(f"{out}: {'evaluates' if labelled else 'predicts'} {len(images)} images")
    answers = [each.predict(images, desc=args.split, tta=args.tta) for each in predictors]
    predictions = mean_predictions(answers) if args.others else answers[0]
    shaped = {SUBMISSION: sample.fill_in(predictions, temperature)} if sample else {}
    if labelled:
        write_evaluation(args, out, runs, predictor, images, predictions, temperature, fitted, shaped)
    else:
        write_folder(out, submission_files(names, predictions, classes, temperature) | shaped)
        show(f"{out}: prediction.csv with {len(images)} rows, submission.zip, confidence.csv")
    if sample:
        show(f"{out / SUBMISSION}: {sample.content} in the shape of {args.sample_submission}")
    return out


def read_sample_submission(args: argparse.Namespace, predictor: "Predictor", images: "ImageSet") -> "SampleSubmission | None":
    """Read the sample submission that the command line names; None if it names none.

    Raises:
        UserError: Its ids are not those of the images, or its labels not those of the model.
    """
    from hw1.evaluation.sample_submission import read_sample
    from hw1.predict.classifier import class_names, read_class_descriptions

    if args.sample_submission is None:
        return None
    names = class_names(predictor)
    return read_sample(Path(args.sample_submission), images.files, names, read_class_descriptions(predictor.recipe.data.root, names))


def write_evaluation(
    args: argparse.Namespace,
    out: Path,
    runs: Sequence[RunFolder],
    predictor: "Predictor",
    images: "ImageSet",
    predictions: "Predictions",
    temperature: float,
    fitted: "FittedTemperature | None",
    further: Mapping[str, bytes],
) -> None:
    """Analyse the predictions of labelled images, write all that says as one folder, and print the numbers that matter most.

    Args:
        args: The command line.
        out: The folder, of which nothing else stays.
        runs: The runs that are averaged, or one.
        predictor: The model of the first.
        images: The images.
        predictions: Of these images.
        temperature: What the logits are divided by.
        fitted: The temperature that an earlier evaluation fitted for these weights.
        further: Content of further files, by name.
    """
    from hw1.attention.figure_rows import plot_attention_examples
    from hw1.evaluation.report.analysis import analyse
    from hw1.evaluation.report.examples import choose_for_attention
    from hw1.evaluation.report.page import why_not_offered
    from hw1.evaluation.report.tracked import track_evaluation
    from hw1.evaluation.report.write import evaluation_files

    run, averaged, names = runs[0], bool(args.tta or args.others), predictor.classes.names
    is_val = out == run.eval_dir("val")
    facts = {**predictor.facts, **({"tta": args.tta, "runs": [str(each.path) for each in runs]} if averaged else {})}
    analysis = analyse(
        predictions.logits,
        predictions.labels,
        images.files,
        names,
        facts,
        temperature=temperature,
        fitted_temperature=fitted.value if fitted else None,
        fit_temperature=is_val,
    )
    attention = None if averaged else plot_attention_examples(predictor, images, choose_for_attention(analysis), temperature)
    files = evaluation_files(run, args.split, images, predictions.logits, analysis, attention)
    write_folder(out, {**files, **further, "predictions.npz": predictions.to_npz(files=images.files, class_names=names)})
    track_evaluation(run, predictor.recipe, out.name, images, predictions.logits, analysis)
    show(f"{args.split}: {describe(analysis.metrics)}")
    show(f"{out / 'index.html'}: mistakes, calibration and classes with images; metrics.json, *.csv, *.png beside it")
    calibration = analysis.calibration
    if is_val and (difference := difference_to_stated(predictor.stated, calibration.before, len(images))):
        say(f"{run.best}: {difference}; were the images, or the file, changed since?")
    if is_val and not why_not_offered(calibration, len(images)):
        show(f"--temperature fitted would divide the logits by {calibration.temperature:.3f}, fitted here: the page says what it changes")


def difference_to_stated(stated: Mapping[str, float], measured: Mapping[str, float], num_images: int) -> str:
    """Say where the validation that a file of weights states is not the one that was measured.

    Args:
        stated: `accuracy` and `nll` of the file; empty where it says nothing.
        measured: The same, of these images.
        num_images: Number of images.

    Returns:
        One line; empty where the two differ by no more than another device or precision explains: one image, or one in 200, and 2% of the
        cross-entropy.
    """
    if not stated:
        return ""
    is_same = (
        round(abs(stated["accuracy"] - measured["accuracy"]) * num_images) <= max(1, num_images / 200)
        and abs(stated["nll"] - measured["nll"]) <= 0.02 * abs(stated["nll"]) + 1e-3
    )
    texts = [f"top-1 {numbers['accuracy']:.4f} and loss {numbers['nll']:.4f}" for numbers in (stated, measured)]
    return "" if is_same else f"says {texts[0]} of its validation, here it is {texts[1]}"


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


def describe(metrics: dict[str, Any]) -> str:
    """Return the numbers that matter most, in one line."""
    low, high = metrics["top1_interval"]
    return (
        f"top-1 {metrics['top1']:.4f} (95% {low:.4f} to {high:.4f})  top-5 {metrics['top5']:.4f}  loss {metrics['loss']:.4f}"
        f"  ECE {metrics['ece']:.4f}  on {metrics['num_images']} images, {metrics['checkpoint']} checkpoint (epoch {metrics['epoch']})"
    )
