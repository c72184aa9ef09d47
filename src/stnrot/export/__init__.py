"""Export a trained model to one file, for ONNX Runtime and other runtimes, or for torch alone.

- `graph`: what is exported, and how it is written.
- `parity`: how far an exported model is from the original, on real images.
- `int8`: the same file with whole numbers of 8 bits.
- `export_file`: all of it, for `stnrot export`.
"""
