"""Where images come from; each source returns the three splits."""
