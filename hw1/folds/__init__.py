"""Cross-validation: `hw1 folds`. A fold for each image, a run for each fold, and a prediction for each image by a run that never saw it."""
