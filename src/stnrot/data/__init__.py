"""Data sets and datamodules.

Datamodules of images make a `Batch`, rendered poses make `Views`, samples of a function make a pair of tensors.

- `datamodule`: the base of all datamodules; `image_data`: the base of those of images.
- `rotated`, `image_pairs`, `rendered`, `conjugate`: the datamodules.
- `sources`: where images come from; `image_set`: sets of images; `image_file`: one file; `partners`: the references of
  pairs; `batch`: the records of a batch.
- `leak_views`: views of upright images that tell whether a network reads the picture, or traces of its rotation.
- `rng`: random numbers by key and counter; `batch_samplers`, `pose_sampling`, `degrade`: what is drawn from them.
"""
