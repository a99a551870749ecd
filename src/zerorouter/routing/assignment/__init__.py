"""Batch assignment: one model per prompt, jointly under bounds on the whole batch.

`programme` states the problem, `single` and `joint` minimise its Lagrangian dual, `repair` turns
the dual's choice into one that keeps every bound, `exact` proves small ones, `limits` explains
what is out of reach, `spend` makes budgets hold for realised costs, `groups` scores subtasks
together. Everything takes and returns plain arrays.
"""
