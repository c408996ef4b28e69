"""Run folders to one report: figures, tables and an HTML page. `python -m hw1.report RUNS_DIR --out DIR`. No torch."""
