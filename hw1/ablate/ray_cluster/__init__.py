"""The runs of a plan on a Ray cluster, many at once: `python -m hw1.ablate ... --ray`. No torch.

Ray decides where and when a run starts, and notices when its worker or node has died. What a run does, and what counts as finished,
continued and failed, is the plan's and `train.py`'s. The run folders are the only memory: whatever dies, the same command goes on.
"""
