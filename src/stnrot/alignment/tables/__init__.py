"""Align the pairs of a table, and keep tables of results.

- `manifest`: align the pairs of a table, row by row.
- `result_table`: the table of results of a manifest.
"""
