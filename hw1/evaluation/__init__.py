"""From a trained model to metrics."""
