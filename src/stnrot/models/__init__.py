"""Networks that align and classify images. Each is built from the modules that its constructor receives.

- `model`: the base class of the models that `stnrot.tasks` trains; `outputs`: the records that they return.
- `rot_stn`: the rotation-only spatial transformer; `affine_stn`: the general one; `cnn`: a classifier alone.
- `encoders`: networks that compare an image with a reference and predict the angle; `classifiers`.
- `mixture`: class probabilities, mixed over the hypotheses of an image; `ensemble`: several trained models as one.
- `pose_net`: the pose of a solid from an image.
- `checks`: what the networks accept.
- `conv_stack`: convolutions that batch norm is folded into in inference.
- `packed_norm`: batch norm of few channels in training.
- `conv_regressor`: a small convolutional regressor, a part of several of these.
"""
