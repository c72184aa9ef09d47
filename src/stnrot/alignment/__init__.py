"""Align images: the angle from an image to its reference, a confidence, and the aligned image.

- `aligner`: `align`, `Aligner` and `Alignment`, the Python interface.
- `inputs`: bring tensors and files to one form and check them.
- `posterior`: from the correlation of two images to a posterior over the angle, and its refined peaks.
- `difference`: an encoder that subtracts the upright angles of two images.
- `manifest`: align the pairs of a table, row by row, with resume.
"""
