"""Align the frames of a series against drift.

- `stack`: `align_stack`, the Python interface.
- `frames`: list the frames and read them.
- `frame_alignment`: align frames to one of them, or each to the one before.
- `mean_frame`: the mean of the aligned frames.
- `output`: write the aligned frames.
- `drift_table`: how each frame lies to the first.
- `reference_kind`: what the frames are aligned to.
"""
