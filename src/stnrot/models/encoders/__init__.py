"""Networks that compare an image with a reference and return an `Orientation`.

- `polar`: correlates features over all angles; the default.
- `p4`: compares features that commute with quarter turns; for photographs.
- `cnn`: regresses one angle.
"""
