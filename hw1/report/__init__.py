"""Report on all runs of a folder: figures, tables and one HTML page. `hw1 report RUNS_DIR --out DIR`. No torch."""
