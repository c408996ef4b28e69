"""Run a plan on a Ray cluster, many runs at once: `hw1 ablate ... --ray`. No torch.

Ray decides where and when a run starts, and starts it again when its worker or node dies. What a run does, and what counts as finished,
continued and failed, is up to the plan and `train.py`. All state is in the run folders: whatever dies, the same command continues.
"""
