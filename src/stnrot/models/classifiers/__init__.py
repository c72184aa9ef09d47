"""Classifiers: networks that take images and return logits.

- `conv`: a small convolutional network, the default.
- `torchvision`, `timm`: networks of these libraries, pretrained or not; `pretrained`: what the two share.
- `weights_file`: reads the weights of a network from a file.
"""
