"""Find the pose of a known solid in an image.

- `fit`: `fit_pose` and `Pose`, the Python interface: search over all angles, then descent through the renderer.
- `levenberg_marquardt`: the descent, from many starts at once.
- `point_clouds`: solids as sets of points, a torus or the points of a file.
"""
