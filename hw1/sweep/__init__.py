"""Search the values of recipe keys that validate best: `hw1 sweep`. Optuna proposes, the plan of `hw1.ablate` trains."""
