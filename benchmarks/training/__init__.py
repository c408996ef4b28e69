"""Parts of the benchmarks of training and evaluation: train_step, inference, epoch, gpu."""
