"""Use a trained model on images as people have them.

- `predictor`: a trained model with what belongs to it: size and channels of its images, classes, border.
- `onnx_predictor`: the same for an exported model, without torch; `open_model` opens either.
- `predictions`, `image_spec`, `image_predictor`: what both have in common.
- `find_model`: from what a person names to the file or folder of a model.
- `image_list`: the files that a person names.
- `predict_files`: any number of files, to a table that grows and resumes; `aligned_files` beside it.
- `upright_files`: turn any number of files upright; `upright_angle` decides by how much.
"""
