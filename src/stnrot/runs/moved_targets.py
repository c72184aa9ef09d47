"""The new names of what has moved: old checkpoints and studies hold dotted paths and options by their old names."""

from typing import Any

MOVED = {
    "stnrot.callbacks.finite_loss.FiniteLoss": "stnrot.callbacks.finite_numbers.FiniteNumbers",
    "stnrot.callbacks.pose_views.PoseViews": "stnrot.callbacks.pose_figures.PoseFigures",
    "stnrot.callbacks.predictions.Predictions": "stnrot.callbacks.predictions_file.PredictionsFile",
    "stnrot.callbacks.recovery.Recovery": "stnrot.callbacks.rotation_figures.RotationFigures",
    "stnrot.callbacks.watch.Watch": "stnrot.callbacks.alignment_figures.AlignmentFigures",
    "stnrot.data.digits.digits": "stnrot.data.sources.digits.digits",
    "stnrot.data.image_folder.image_folder": "stnrot.data.sources.image_folder.ImageFolder",
    "stnrot.data.manifest.manifest": "stnrot.data.sources.manifest.Manifest",
    "stnrot.data.mnist.mnist": "stnrot.data.sources.mnist.mnist",
    "stnrot.data.mnist.mnist_pooled": "stnrot.data.sources.mnist.mnist_pooled",
    "stnrot.data.pairs.ImagePairs": "stnrot.data.image_pairs.ImagePairs",
    "stnrot.data.sources.image_folder.image_folder": "stnrot.data.sources.image_folder.ImageFolder",
    "stnrot.data.sources.manifest.manifest": "stnrot.data.sources.manifest.Manifest",
    "stnrot.models.batch_norm.BatchNormSync": "stnrot.runs.processes.sync_batch_norm.BatchNormSync",
    "stnrot.models.classifier.ConvClassifier": "stnrot.models.classifiers.conv.ConvClassifier",
    "stnrot.models.curves.Curves": "stnrot.layers.scaled_tanh.ScaledTanh",
    "stnrot.models.rotation.Conjugate": "stnrot.layers.conjugate.Conjugate",
    "stnrot.models.rotation.Rotation": "stnrot.layers.rotation.Rotation",
    "stnrot.runs.sync_batch_norm.BatchNormSync": "stnrot.runs.processes.sync_batch_norm.BatchNormSync",
    "stnrot.search.spaces.hypotheses": "stnrot.search.conditional_spaces.hypotheses",
}
ARGUMENTS = {"stnrot.callbacks.finite_loss.FiniteLoss": {"folder": None, "skip": 0}}  # in the place of those it had
OPTIONS = {"model/classifier=classifier": "model/classifier=conv"}


def with_new_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run with the current names of its classes and sections."""
    renamed = {"data_spec" if name == "images" else name: section for name, section in config.items()}
    return {name: _moved(section) for name, section in renamed.items()}


def _moved(node: Any) -> Any:
    if isinstance(node, dict):
        old = str(node.get("_target_"))
        target = MOVED.get(old)
        moved = {key: _moved(value) for key, value in ARGUMENTS.get(old, node).items()}
        if target is None:
            return moved
        if target.rpartition(".")[2][0].isupper():  # a function that became a class is built at once
            moved.pop("_partial_", None)
        return moved | {"_target_": target}
    return [_moved(item) for item in node] if isinstance(node, list) else node
