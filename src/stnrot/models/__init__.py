"""Networks that align and classify images. Each is built from the modules that its constructor receives.

- `model`: the base class of the models that `stnrot.tasks` trains; `outputs`: the records that they return.
- `create_model`: a model with the default options of `configs/model/`.
- `rot_stn`: the rotation-only spatial transformer; `affine_stn`: the general one; `cnn`: a classifier alone.
- `upright`: any network behind an encoder that finds the upright; `turn_back`: its outputs in the frame of the image;
  `fit`: its training loop.
- `encoders`: networks that compare an image with a reference and predict the angle; `classifiers`.
- `mixture`: class probabilities, mixed over the hypotheses of an image; `ensemble`: several trained models as one.
- `pose_net`: the pose of a solid from an image.
- `angle_loss`: the likelihood of a known angle; `confidence`: how probable it is that a predicted angle is right;
  `reference`: the learned reference.
- `checks`: what the networks accept.
- `conv_stack`: convolutions that batch norm is folded into in inference.
- `p4_conv`: convolutions that commute with quarter turns.
- `packed_norm`: batch norm of few channels in training.
- `conv_regressor`: a small convolutional regressor, a part of several of these.
"""
