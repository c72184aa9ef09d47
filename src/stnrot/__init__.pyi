from . import geometry
from .alignment.aligner import Aligner, align
from .alignment.alignment import Alignment
from .alignment.stacks.stack import align_stack
from .errors import InputError
from .geometry.planar import rotate
from .jobs.fit import fit
from .layers.block_rotation import BlockRotation
from .layers.conjugate import Conjugate
from .layers.rotation import Rotation
from .layers.rotational import rotational
from .models.create_model import create_model
from .models.upright import Upright
from .pose.fit import Pose, fit_pose
from .prediction.onnx_predictor import OnnxPredictor
from .prediction.predictor import Predictor, load

__all__ = [
    "Aligner",
    "Alignment",
    "BlockRotation",
    "Conjugate",
    "InputError",
    "OnnxPredictor",
    "Pose",
    "Predictor",
    "Rotation",
    "Upright",
    "align",
    "align_stack",
    "create_model",
    "fit",
    "fit_pose",
    "geometry",
    "load",
    "rotate",
    "rotational",
]
