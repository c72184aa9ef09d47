"""Align images: the angle from an image to its reference, a shift, a confidence, and the aligned image.

- `aligner`: `align`, `Aligner` and `Alignment`, the Python interface.
- `inputs`: bring tensors and files to one form and check them.
- `posterior`: the posterior over the angle, from the correlation of two images and from an encoder, and its peaks.
- `motion`: a rotation and a shift.
- `rigid`, `rigid_search`, `rigid_refinement`: find the motion between two images that are also shifted.
- `upright_difference`: an encoder that subtracts the upright angles of two images.
- `manifest`: align the pairs of a table, row by row.
- `result_table`: the table of results, locked while it grows, read to resume it.
"""
