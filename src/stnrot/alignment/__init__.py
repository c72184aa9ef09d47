"""Align images: the angle from an image to its reference, a shift, a confidence, and the aligned image.

- `aligner`: `align` and `Aligner`, the Python interface.
- `alignment`: `Alignment`, their answer.
- `pairs`: batches of pairs, split and reduced.
- `inputs`: bring tensors and files to one form and check them.
- `posterior`: the posterior over the angle, from the correlation of two images and from an encoder, and its peaks.
- `motion`, `motion_kind`: rotation, shift and scale.
- `motion_between`: find the motion between two images that are also shifted or scaled, by `motion_search` and
  `motion_refinement`.
- `upright_difference`: an encoder that subtracts the upright angles of two images.
- `tables`: the pairs of a table, and tables of results.
- `stacks`: the frames of a series against drift.
"""
