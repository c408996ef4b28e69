"""Tell trackers of experiments, wandb and TensorBoard, of a run."""
