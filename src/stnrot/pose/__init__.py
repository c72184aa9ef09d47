"""The pose of a solid from an image of it: search over all angles, then descent through the renderer."""
