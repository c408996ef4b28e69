"""What is said of an epoch, and where."""

from hw1.runs.epoch_metrics import format_epoch
from hw1.utils.console import say


def test_an_epoch_is_one_line():
    numbers = {"train_loss": 1.23456, "train_acc": 0.5, "val_loss": 0.75, "val_top1": 0.9042, "val_top5": 1.0}
    speed = {"lr": 1e-4, "images_per_second": 1234.56, "data_wait": 0.034, "seconds": 61.4}
    assert format_epoch({"epoch": 7, **numbers, **speed}, 50) == (
        "epoch  7/50  train loss 1.2346 acc 0.5000  val loss 0.7500 top1 0.9042 top5 1.0000  lr 1.00e-04  1235 img/s  wait 3%  61 s"
    )


def test_lines_for_the_user_go_to_stderr(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")
