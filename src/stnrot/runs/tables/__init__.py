"""Tables on the screen and in files.

- `columns`: print columns, or write them as CSV; `multirun_table`: the table of a multirun.
- `growing_table`: a CSV table to which a command adds row by row, and which it continues.
- `share`, `merged_table`: a list that several machines work on, and the one table of theirs.
"""
