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
- `manifest`: align the pairs of a table, row by row.
- `result_table`: the table of results of a manifest.
- `stack`: `align_stack`, the frames of a series against drift. `frames` lists and reads them, `frame_alignment` aligns
  them to one or to each other, `mean_frame` is their mean, and `stack_output` writes them.
- `drift_table`: the table of a stack. `reference_kind`: what its frames are aligned to.
- `table_file`: any table of results, locked while it grows, read to resume it.
"""
