"""Sets of images in tar files (shards) of the webdataset format, where each image is addressed by shard and offset.

- `info`: what a set says about itself, in `info.json`; `index`: the place of each image.
- `local`, `remote`: shards in a folder, or on a web server and in a bounded cache; `download`: one file of a server;
  `prefetch`: the next shards in the background.
- `shard_set`: the data set; `order`: the order of a training.
- `scan`: the index of shards that have none; `write`: shards of a folder of images.
"""
