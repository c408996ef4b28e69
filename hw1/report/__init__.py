"""Compare any runs: figures, tables and one HTML page. `hw1 report RUNS... --out DIR`. No torch."""
