"""Export a run as files that others can use: `hw1 export`."""
