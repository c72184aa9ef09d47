"""Where a sample comes from; everything here ends in a `Batch`."""
