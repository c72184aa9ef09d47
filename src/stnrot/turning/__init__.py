"""Turn image files: quarter turns without loss, other angles by one resampling; what else a file holds is kept.

- `turn_file`: one file, turned by an angle.
- `frame`: the size of a turned image: cropped, expanded or the same.
- `quarter_turns`, `pixels`: turned pixels, of every mode and depth.
- `exif`: the orientation and the sizes in EXIF and XMP data.
- `jpeg_file`, `png_file`, `tiff_file`: the parts of these files.
- `places`: where the turned files go.
- `record`: which files were turned in place, so that none is turned twice.
"""
