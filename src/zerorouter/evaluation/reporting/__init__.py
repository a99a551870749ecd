"""How result rows are shown: tables, figures, and their renderings.

`tables` and `figures` are pure functions of rows; `terminal`, `markdown`, `page` and `summary`
render what those return. `zerorouter.evaluation.report` is the door.
"""
