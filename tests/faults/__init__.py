"""Fault injection on real processes: the short form is part of `make test`, the long one is `make torture`.

Each module tries faults of one kind `n` times and counts in a `Tally` how many were survived: nothing lost, nothing wrong, and a message
that says what to do. `list.py` names them all; `__main__` runs them and writes the table.
"""
