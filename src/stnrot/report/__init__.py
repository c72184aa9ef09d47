"""The report on runs: one HTML page that needs no other file, by `stnrot report`.

- `run_folder`, `predictions`, `run_images`: read a run, its predictions.csv, and the images of its test set.
- `overview`, `metric`: facts, numbers, and options that differ.
- `curves`, `by_angle`, `reliability`, `confusion`, `samples`, `saved_figures`: a section each.
- `blocks`, `svg`: what a section is made of. `page` draws the sections with the template in the folder `page/`.
"""
