"""Two pictures in, an `Orientation` out."""
