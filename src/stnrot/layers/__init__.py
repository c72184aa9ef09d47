"""Layers for any network, not only for networks of images.

- `rotation`: the layer `Rotation`, a learned rotation of R^d.
- `block_rotation`: the layer `BlockRotation`, learned rotations of blocks of coordinates, for fine-tuning.
- `rotational`: a function that constrains a weight of any module to be a rotation.
- `maps`: the methods of `Rotation`, with their formulas, costs and limits.
- `conjugate`: the layer `Conjugate`, `R^T f(R z)`.
- `scaled_tanh`: a function f that acts on each coordinate alone.
- `checks`: what the layers accept.
"""
