"""Two images in; angle, confidence and aligned image out: for one pair, a batch, or a list of pairs."""
