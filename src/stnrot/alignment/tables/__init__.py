"""Align the pairs of a table, and keep tables of results.

- `manifest`: align the pairs of a table, row by row.
- `result_table`: the table of results of a manifest.
- `table_file`: any table of results, locked while it grows, read to resume it.
"""
