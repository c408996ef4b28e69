"""Ablations: every variant of a plan, over several seeds."""
