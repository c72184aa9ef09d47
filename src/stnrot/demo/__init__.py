"""The page of `stnrot demo`: a picture that one drops and turns, beside what a model finds in it.

- `page`: the page, and its server.
- `picture`: what it shows of a picture, or of two.
- `dial`: an angle and its posterior, drawn as SVG.
"""
