"""Layers for any network, not only for networks of images.

- `rotation`: the layer `Rotation`, a learned rotation of R^d. `rotation_arguments` checks its arguments.
- `maps`: the methods of `Rotation`, with their formulas, costs and limits.
- `conjugate`: the layer `Conjugate`, `R^T f(R z)`.
- `scaled_tanh`: a function f that acts on each coordinate alone.
"""
