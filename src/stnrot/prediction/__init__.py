"""Use a trained model on images as people have them.

- `predictor`: a trained model with what belongs to it: size and channels of its images, classes, border.
- `find_model`: from what a person names to the file or folder of a model.
- `predict_files`: any number of files, to a table that grows and resumes.
"""
