"""Where images come from. Each source is called with (root, split_seed) and returns the three `Splits`."""
