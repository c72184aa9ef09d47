"""Networks that compare an image with a reference and return an `Orientation`.

- `polar`: correlates features over all angles; the default.
- `cnn`: regresses one angle.
"""
