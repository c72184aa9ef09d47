"""Data sets and datamodules.

Datamodules of images make a `Batch`, rendered poses make `Views`, samples of a function make a pair of tensors.
"""
