"""Evidence: splits, baselines, metrics, statistics and reports.

`harness` runs methods over splits and writes rows; tables and plots are drawn from the rows
alone. A new method is one file in `baselines/` that follows `contracts.Method`.
"""
