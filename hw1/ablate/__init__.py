"""Train several recipes over several seeds, and know which two of them make a pair."""
