"""What happened: the tables of a run, the metrics read from them, their intervals, and how they are kept.

`tables` is the one list of columns; `metrics` says what a latency or a cost is; `intervals` says how sure we
are; `summary` puts the two together; `flags` says when not to trust them; `writing` and `result` keep them
and bring them back. Nothing here knows an engine: the input is tables.
"""
