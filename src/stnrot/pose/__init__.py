"""Find the pose of a known solid in an image.

- `fit`: `fit_pose` and `Pose`, the Python interface: search over all angles, then descent through the renderer.
- `start`: the poses to start from, if the user gives angles or a network.
- `view`: the images that a descent compares, at full or reduced size, with their derivatives.
- `levenberg_marquardt`: the descent, from many starts at once.
- `half_turns`: poses that differ by a half turn of the solid.
- `point_clouds`: solids as sets of points, a torus or the points of a file.
"""
