"""Every public function of `stnrot.geometry`, called with right and wrong arguments of every kind.

A right call returns a result of the documented shape, type and device, equal to the result in float64 of dense copies.
A wrong call raises one InputError that names the argument. The shape of a result is checked by jaxtyping under pytest.
"""

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, get_type_hints

import jaxtyping
import pytest
import torch
from annotated import Arguments, Values
from hypothesis import strategies as st
from jaxtyping import Complex, Float
from property import property_test
from torch import Tensor

import stnrot.geometry
from stnrot.arguments import Count, Natural
from stnrot.errors import InputError
from stnrot.geometry import (
    angles,
    axis_matching,
    congealing,
    correlation,
    euler,
    fourier,
    householder,
    jpeg,
    nearest_euler,
    planar,
    points,
    polar,
    rotations,
    splat,
    symmetry,
)
from stnrot.geometry.correlation import AngularCorrelation
from stnrot.geometry.deform import Deform
from stnrot.geometry.photo import PhotoAugment
from stnrot.geometry.random_views import RandomViews

ALONE: st.SearchStrategy = st.just(({}, {}))
ORDERS = ("X", "y", "XZ", "zy", "XYZ", "zxz")
CAMERA = splat.Camera(height=6, width=7, sigma=1.5, distance=3)
TINY = 1e-30
Compare = Callable[[Tensor, Tensor, float], None]


def near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare with the float64 result, relative to its largest value. A float32 result may overflow."""
    if not found.dtype.is_floating_point and not found.dtype.is_complex:
        assert torch.equal(found, expected)
        return
    both = found.isfinite() & expected.isfinite()
    assert (both | ~found.isfinite()).all(), "a number where float64 gives none"
    largest = expected[both].abs().max().item() if both.any() else 0.0
    assert both.all() or largest > 1e15 or not expected.isfinite().all() or expected.abs().max() > 1e4
    gap = (found.to(expected.dtype) - expected)[both].abs()
    assert not gap.numel() or gap.max() <= tolerance * max(largest, 1.0), f"off by {gap.max():.3g}"


def near_on_the_circle(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare angles up to full turns."""
    gap = torch.remainder(found.double() - expected + math.pi, 2 * math.pi) - math.pi
    assert not gap.numel() or gap.abs().max() <= tolerance, f"off by {gap.abs().max():.3g}"


def as_poses(order: str, own: Tensor | None) -> Compare:
    """Compare angles by their rotations, or by the direction to which they rotate a vector."""

    def compare(found: Tensor, expected: Tensor, tolerance: float) -> None:
        pair = [euler.euler_to_matrix(each, order) for each in (found.double(), expected)]
        near(*(pair if own is None else [each @ own.detach().double() for each in pair]), tolerance)

    return compare


def never(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Random results are not compared."""


def rotation(x: Tensor) -> Tensor:
    """Return random rotations; jaxtyping's batch dimensions come first."""
    return rotations.qr_rotation.__wrapped__(x) if x.numel() else x


def regular(x: Tensor) -> Tensor:
    """Return matrices near rotations."""
    return rotation(x) + 0.1 * x.clamp(-1, 1)


def axes(x: Tensor) -> Tensor:
    """Return n n^T of random unit vectors."""
    n = torch.nn.functional.normalize(x[..., 0], dim=-1)
    return n[..., :, None] * n[..., None, :]


def unit(x: Tensor) -> Tensor:
    """Return vectors of length 0.5 to 1.5."""
    return torch.nn.functional.normalize(x, dim=-1) * (1 + 0.5 * x[..., :1].tanh())


def plain(x: Tensor) -> Tensor:
    """Return the normal numbers themselves: without an overflow."""
    return x


def wide_angles(x: Tensor) -> Tensor:
    """Return angles of several turns."""
    return 4 * x


def correlate(image: Float[Tensor, "B C H W"], reference: Float[Tensor, "R C h w"]) -> Tensor:
    """Return the coefficients."""
    return correlation.correlate(image, reference).coefficient


def sampled(coefficient: Complex[Tensor, "B F"], count: Count) -> Tensor:
    """Make the object and call the method."""
    return AngularCorrelation(coefficient, coefficient.abs().sum(1)).sampled(count)


def value_and_derivatives(coefficient: Complex[Tensor, "B F"], angle: Float[Tensor, "B K"]) -> Any:
    """Make the object and call the method."""
    return AngularCorrelation(coefficient, coefficient.abs().sum(1)).value_and_derivatives(angle)


def random_rotation(dim: Count, batch: Natural) -> Tensor:
    """Draw one batch."""
    return rotations.random_rotation(dim, batch)


def own_axis(own_axis: Float[Tensor, "3"]) -> Tensor:
    """Return the axis of the object."""
    return symmetry.Revolution(own_axis).own_axis


@dataclass(frozen=True)
class Case:
    """What is documented of a function.

    Args:
        function: which to call.
        dtype: of the result: `same`, the common type of the tensors, or at least float32 for `wide`; `first`, the type
            of the first tensor; or a type.
        values: see `Arguments`.
        others: see `Arguments`.
        linked: sizes and arguments that depend on each other.
        valid: whether arguments that fit their annotations are right together.
        compare: see `near`; may depend on the order of the axes.
        tolerance: times the machine epsilon.
        nan: whether a NaN in an argument gives a NaN in the result.
        meta: whether the result can be found without values.
        finite: whether infinite and NaN values are refused.
        own: the axis of the solid whose direction the angles determine.
    """

    function: Callable[..., Any]
    dtype: Any = "wide"
    values: dict[str, Values] = field(default_factory=dict)
    others: dict[str, st.SearchStrategy] = field(default_factory=dict)
    linked: st.SearchStrategy = ALONE
    valid: Callable[..., Any] = lambda **_: True
    compare: Compare | None = near
    tolerance: float = 256
    nan: bool = True
    meta: bool = True
    finite: bool = False
    own: Tensor | None = None


def is_order(order: Any) -> bool:
    """Return whether this is one of the orders of axes."""
    return order in ORDERS


an_order = {"order": st.sampled_from(ORDERS)}
as_many = st.sampled_from([({"A": len(each)}, {"order": each}) for each in ORDERS])
pose = {"rotation": rotation}
drawing: dict[str, Any] = {
    "values": {"points": torch.tanh, **pose},
    "others": {"camera": st.just(CAMERA)},
    "tolerance": 1e4,
    "nan": False,
}
in_frame = {"points": plain, "boxes": plain, "angle": wide_angles}
poses = {"a": rotation, "b": rotation}
deform = Deform(turn_deg=20, stretch=0.1, shift=0.1, elastic=0.1)
photo = PhotoAugment(area=0.5, aspect=1.3, mirror=0.5, brightness=0.4, contrast=0.4, saturation=0.4, erase=0.25)
random_views = RandomViews(mirror=0.5)
asymmetric, revolution = symmetry.Asymmetric(), symmetry.Revolution(torch.tensor([0.0, 1.0, 0.0]))


def euler_case(function: Callable[..., Any], value: Values, **options: Any) -> Case:
    """Return a case whose angles are compared by their rotations."""
    names = [each for each in get_type_hints(function) if each in ("matrix", "axis", "own")]
    return Case(
        function,
        values=dict.fromkeys(names, value),
        others=an_order,
        valid=lambda order, **_: is_order(order),
        compare=None,
        tolerance=1e5,
        **options,
    )


def rotate_fits(image: Tensor, angle: Any, center: Any, padding_mode: str, fill: Any, expand: bool, **_: Any) -> bool:
    """Return whether the arguments of `rotate` fit together."""
    batch, values = image.ndim == 4, isinstance(angle, Tensor)
    if batch and values and angle.ndim and len(angle) != len(image):
        return False
    if isinstance(center, Tensor) and center.ndim == 2 and len(center) != (len(image) if batch else 1):
        return False
    if isinstance(fill, Tensor) and len(fill) != (image.shape[-3] if image.ndim > 2 else 1):
        return False
    if expand and (center is not None or (values and angle.is_meta and angle.numel())):
        return False
    plain = not isinstance(fill, Tensor) and fill == 0
    if expand and values and not angle.isfinite().all():
        return False
    return plain or padding_mode == "zeros"


CASES = {
    "angles.wrap": Case(angles.wrap, "same", {"angle": wide_angles}, compare=near_on_the_circle),
    "angles.angular_distance": Case(
        angles.angular_distance, "result_type", {"a": wide_angles, "b": wide_angles}, tolerance=1024
    ),
    "angles.circular_mean": Case(
        angles.circular_mean, "same", {"angle": lambda x: x.tanh()}, compare=near_on_the_circle, tolerance=1024
    ),
    "angles.upsample_log_density": Case(angles.upsample_log_density, "same"),
    "angles.circular_peaks": Case(
        angles.circular_peaks,
        "same",
        valid=lambda score, count, reach: count <= score.shape[1] and 2 * reach < score.shape[1],
        linked=st.integers(3, 9).map(lambda bins: ({"A": bins}, {})),
        compare=never,  # ties may be broken otherwise: see test_angles
        nan=False,  # -inf is a density of zero
    ),
    "axis_matching.matched_axes": Case(
        axis_matching.matched_axes, None, {"product": rotation}, meta=False, finite=True
    ),
    "axis_matching.axis_angles": Case(
        axis_matching.axis_angles, "wide", {"product": rotation}, meta=False, finite=True
    ),
    "correlation.correlate": Case(
        correlate,
        "complex",
        {"image": plain, "reference": plain},
        linked=st.sampled_from([({"R": 1}, {}), ({"R": 2, "B": 2}, {}), ({"R": 1, "B": 0}, {}), ({}, {})]),
        valid=lambda image, reference: len(reference) in (1, len(image)),
        compare=never,  # an image without structure has no correlation but rounding
    ),
    "correlation.AngularCorrelation.sampled": Case(
        sampled, "real", {"coefficient": plain}, valid=lambda coefficient, count: count > 2 * coefficient.shape[1]
    ),
    "correlation.AngularCorrelation.value_and_derivatives": Case(
        value_and_derivatives,
        "real",
        {"coefficient": plain, "angle": plain},
        nan=False,  # there may be no term
    ),
    "congealing.rotation_onto": Case(
        congealing.rotation_onto,
        "first",
        {"image": plain, "reference": plain},
        linked=st.sampled_from([({"R": 1}, {}), ({"R": 2, "B": 2}, {}), ({"R": 1, "B": 0}, {}), ({}, {})]),
        valid=lambda image, reference: len(reference) in (1, len(image)),
        compare=never,  # the highest of several maxima
    ),
    "deform.Deform.random_angle": Case(deform.random_angle, nan=False),  # it reads one of the numbers
    "deform.Deform.__call__": Case(
        deform.__call__, "first", dict.fromkeys(("image", "angle", "numbers"), plain), compare=None, nan=False
    ),
    "euler.euler_to_matrix": Case(
        euler.euler_to_matrix,
        values={"angles": wide_angles},
        linked=as_many,
        valid=lambda angles, order: is_order(order) and angles.shape[-1] == len(order),
    ),
    "euler.euler_jacobian": Case(
        euler.euler_jacobian,
        values={"angles": wide_angles},
        linked=as_many,
        valid=lambda angles, order: is_order(order) and angles.shape[-1] == len(order),
        nan=False,  # a derivative does not depend on every angle
    ),
    "euler.matrix_to_euler": euler_case(euler.matrix_to_euler, rotation, nan=False),
    "euler.geodesic_distance": Case(euler.geodesic_distance, values=poses, tolerance=2048),
    "euler.axis_rotation": Case(euler.axis_rotation, values={"angle": wide_angles}),
    "euler.axis_rotation_angle": Case(
        euler.axis_rotation_angle, values={"matrix": rotation}, compare=near_on_the_circle, tolerance=1e5, nan=False
    ),
    "euler.two_axis_angles": Case(
        euler.two_axis_angles,
        values={"matrix": rotation},
        valid=lambda i, j, **_: i != j,
        compare=near_on_the_circle,
        tolerance=1e5,
        nan=False,
    ),
    "fourier.rfft": Case(fourier.rfft, "complex"),
    "fourier.irfft": Case(fourier.irfft, "real", nan=False),  # the imaginary part of the mean has no meaning
    "householder.reflect": Case(householder.reflect, values={"x": plain}, tolerance=1e4, nan=False),
    "householder.householder_rotation": Case(householder.householder_rotation, tolerance=1e4, nan=False),
    "householder.householder_vectors": Case(
        householder.householder_vectors, values=pose, meta=False, nan=False, tolerance=1024
    ),
    "jpeg.jpeg": Case(
        jpeg.jpeg,
        "first",
        {"image": torch.sigmoid, "quality": lambda x: 100 * torch.sigmoid(x)},
        compare=never,  # rounding may go the other way
    ),
    "nearest_euler.nearest_euler": euler_case(nearest_euler.nearest_euler, rotation, nan=False),
    "nearest_euler.axis_to_euler": euler_case(nearest_euler.axis_to_euler, unit, nan=False),
    "nearest_euler.angle_about": Case(
        nearest_euler.angle_about,
        values={"first": unit, "second": unit},
        compare=near_on_the_circle,
        tolerance=1e5,
        nan=False,
    ),
    "photo.PhotoAugment.__call__": Case(
        photo.__call__, "first", dict.fromkeys(("image", "angle", "numbers"), plain), compare=None, nan=False
    ),
    "random_views.RandomViews.random_angle": Case(random_views.random_angle, nan=False),  # it is 0 whatever they are
    "random_views.RandomViews.__call__": Case(
        random_views.__call__, "first", dict.fromkeys(("image", "angle", "numbers"), plain), compare=None, nan=False
    ),
    "planar.rotation_theta": Case(planar.rotation_theta, "same", {"angle": wide_angles}),
    "planar.nearest_rotation": Case(
        planar.nearest_rotation, "same", {"theta": plain}, compare=near_on_the_circle, tolerance=1e5, nan=False
    ),
    "planar.sampling_grid": Case(planar.sampling_grid, "same", {"theta": plain}),
    "planar.sample": Case(planar.sample, "first", {"image": plain, "grid": plain}, compare=None, nan=False),
    "planar.warp": Case(planar.warp, "first", {"image": plain, "theta": plain}, compare=None, nan=False),
    "planar.rotate": Case(
        planar.rotate,
        "first",
        dict.fromkeys(("image", "angle", "center", "fill"), plain),
        valid=rotate_fits,
        compare=None,
        nan=False,
    ),
    "planar.rotate_bicubic": Case(
        planar.rotate_bicubic, "first", {"image": torch.sigmoid, "angle": wide_angles}, tolerance=1e4, nan=False
    ),
    "planar.inscribed_disc": Case(
        planar.inscribed_disc,
        torch.bool,
        others={"device": st.sampled_from([None, torch.device("cpu")])},
        valid=lambda size, **_: len(size) == 2,
    ),
    "points.rotate_points": Case(points.rotate_points, values=in_frame),
    "points.box_corners": Case(points.box_corners, "same"),
    "points.rotate_boxes": Case(points.rotate_boxes, values=in_frame),
    "points.oriented_boxes": Case(points.oriented_boxes),
    "points.rotate_oriented_boxes": Case(points.rotate_oriented_boxes, values=in_frame, compare=near_on_the_circle),
    "points.oriented_corners": Case(points.oriented_corners, values=in_frame, nan=False),
    "polar.to_polar": Case(
        polar.to_polar,
        "first",
        others={"blur": st.floats(0.5, 2), "centre": st.just((0.1, -0.3)), "share": st.floats(0.1, 1.5)},
        nan=False,  # a Gaussian that is zero in float64 meets a NaN or an infinity
        tolerance=4096,
    ),
    "rotations.planar_rotation": Case(rotations.planar_rotation, values={"angle": wide_angles}),
    "rotations.skew": Case(rotations.skew, "same", nan=False),  # it reads one triangle
    "rotations.cayley": Case(rotations.cayley, values={"a": lambda x: x - x.mT}, tolerance=4096),
    "rotations.exponential": Case(rotations.exponential, values={"a": lambda x: x - x.mT}, tolerance=4096),
    "rotations.newton_schulz_step": Case(rotations.newton_schulz_step, values={"r": regular}),
    "rotations.qr_rotation": Case(rotations.qr_rotation, values={"w": regular}, tolerance=4096, nan=False),
    "rotations.random_rotation": Case(random_rotation, torch.float64, compare=never),
    "rotations.project_rotation": Case(rotations.project_rotation, values={"matrix": regular}, tolerance=4096),
    "rotations.newton_schulz": Case(rotations.newton_schulz, values={"matrix": regular}, tolerance=4096),
    "rotations.rotation_defect": Case(rotations.rotation_defect, torch.float64),
    "rotations.det_sign": Case(rotations.det_sign, values={"matrix": regular}, nan=False),
    "splat.project": Case(splat.project, **drawing),
    "splat.render": Case(splat.render, **drawing),
    "splat.splat": Case(
        splat.splat,
        values={"position": wide_angles, "weight": plain},
        others={"sigma": st.floats(0.5, 3), "saturation": st.sampled_from(["clamp", "soft"])},
        valid=lambda saturation, **_: saturation in ("clamp", "soft"),
        tolerance=1e4,
        nan=False,
    ),
    "symmetry.Asymmetric.matrix": Case(asymmetric.matrix, "same"),
    "symmetry.Asymmetric.encode": Case(asymmetric.encode, "same"),
    "symmetry.Asymmetric.euler": euler_case(asymmetric.euler, rotation),
    "symmetry.Asymmetric.distance": Case(asymmetric.distance, values=poses, tolerance=2048),
    "symmetry.Asymmetric.direction": Case(asymmetric.direction, "same", nan=False),
    "symmetry.Revolution": Case(own_axis, values={"own_axis": plain}, finite=True),
    "symmetry.Revolution.matrix": Case(revolution.matrix, "same"),
    "symmetry.Revolution.encode": Case(revolution.encode, values=pose, nan=False),
    "symmetry.Revolution.euler": euler_case(revolution.euler, axes, own=torch.tensor([0.0, 1.0, 0.0])),
    "symmetry.Revolution.distance": Case(revolution.distance, values=poses, tolerance=2048, nan=False),
    "symmetry.Revolution.direction": Case(revolution.direction, values=pose, nan=False),
    "symmetry.symmetry_of": Case(
        symmetry.symmetry_of,
        None,
        valid=lambda own_axis: (
            own_axis is None or (len(own_axis) == 3 and torch.tensor(own_axis, dtype=torch.float32).norm() > 0)
        ),
    ),
}
NOT_HERE = {
    "congealing.congeal": "its labels: test_congealing",
    "correlation.AngularCorrelation": "the check of pytest comes first: test_arguments has `checked_fields`",
    "correlation.fast_length": "a length for the FFT: test_correlation",
    "deform.Deform": "its numbers: test_deform",
    "photo.PhotoAugment": "its numbers: test_photo",
    "random_views.RandomViews": "its number: test_random_views",
    "splat.Camera": "its numbers: test_splat",
    "symmetry.Asymmetric": "has no arguments",
    "euler.axis_numbers": "every function of an order calls it",
    # the layers call these after checks of their own
    "block_cayley.block_cayley": "",
    "reflection_blocks.Blocks": "",
    "reflection_blocks.Stack": "",
    "reflection_blocks.block_size": "",
    "reflection_blocks.blocks_of": "",
    "reflection_blocks.split": "",
    "reflection_blocks.stack_of": "",
    "reflection_blocks.triangle": "",
    "reflection_product.apply_blocks": "",
    "reflection_product.matrix_of": "",
    "rotations.cayley_from": "",
}


def test_no_public_function_is_missing() -> None:
    found = set()
    for module in pkgutil.iter_modules(stnrot.geometry.__path__):
        if module.name in ("autograd", "constants", "fused_rotation", "lanczos", "resampling", "tails"):
            continue  # tools for the functions themselves
        content = importlib.import_module(f"stnrot.geometry.{module.name}")
        for name, each in vars(content).items():
            if name.startswith("_") or getattr(each, "__module__", None) != content.__name__:
                continue
            if inspect.isfunction(each) or inspect.isclass(each):
                found.add(f"{module.name}.{name}")
            if inspect.isclass(each):
                methods = {key for key, value in vars(each).items() if inspect.isfunction(value)}
                public = {key for key in methods if not key.startswith("_") or key == "__call__"}
                found |= {f"{module.name}.{name}.{key}" for key in public}
    assert found == CASES.keys() | NOT_HERE.keys()


def test_pytest_checks_the_shapes_of_results() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        angles.wrap.__wrapped__(torch.ones(2).int())


@pytest.mark.parametrize("name", CASES)
@property_test(data=st.data())
def test_a_right_call_is_answered_and_a_wrong_one_is_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    hints = get_type_hints(case.function, include_extras=True)
    hints = {key: hints[key] for key in inspect.signature(case.function).parameters}
    sizes, given = data.draw(case.linked)
    drawn = Arguments(data.draw, hints, sizes, given, case.others, case.values)
    if data.draw(st.integers(0, 2)) == 0:
        drawn.spoil(except_for="coefficient")
    arguments, tensors = drawn.by_name, drawn.tensors()
    finite = all(bool(each.isfinite().all()) for each in tensors if each.device.type == "cpu" and not each.is_sparse)
    right = drawn.fit() and case.valid(**arguments) and (finite or not case.finite)
    meta = any(each.is_meta for each in tensors)
    if not right or (meta and not case.meta):
        with pytest.raises(InputError) as refused:
            case.function(**arguments)
        message = str(refused.value)
        assert "\n" not in message
        named = re.match(r"(\w+)", message)[1]  # type: ignore[index]
        assert named in ([drawn.misfit] if drawn.misfit else arguments)
        return
    found = case.function(**arguments)
    if case.dtype is None and not isinstance(found, tuple):
        return
    found = found if isinstance(found, tuple) else (found,)
    for each in found:
        assert each.device == (tensors[0].device if tensors else torch.device("cpu"))
        if case.dtype is not None and each.dtype != torch.bool:
            assert each.dtype == expected_type(case.dtype, arguments, tensors)
    if meta:
        return
    if not finite:
        has_nan = any(each.isnan().any() for each in tensors) and any(each.numel() for each in found)
        assert not (has_nan and case.nan) or any(each.isnan().any() for each in found if each.dtype != torch.int64)
        return
    dense = {key: as_float64(each) if isinstance(each, Tensor) else each for key, each in arguments.items()}
    expected = case.function(**dense)
    expected = expected if isinstance(expected, tuple) else (expected,)
    types = [each.dtype for each in (*tensors, *found) if each.dtype.is_floating_point or each.dtype.is_complex]
    single = torch.finfo(torch.float32).eps
    epsilon = max([min(torch.finfo(each).eps, single) for each in types], default=single)
    precision = max([torch.finfo(each.dtype).eps for each in found if each.dtype in types], default=epsilon)
    compare = case.compare or comparison(arguments, case.own)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        compare(one.detach(), other.detach(), max(case.tolerance * epsilon, 8 * precision))


def comparison(arguments: dict[str, Any], own: Tensor | None) -> Compare:
    """Return how results are compared that depend on an order of axes or a mode of sampling."""
    if "order" in arguments:
        return as_poses(arguments["order"], arguments.get("own", own))
    nearest = arguments["mode"] == "nearest" or arguments.get("expand")
    return never if nearest else lambda found, expected, tolerance: near(found, expected, 16 * tolerance)


def as_float64(x: Tensor) -> Tensor:
    """Return a dense copy."""
    wide = x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
    return wide.contiguous().clone()


def expected_type(kind: Any, arguments: dict[str, Any], tensors: list[Tensor]) -> torch.dtype:
    """Return the documented type of a result."""
    if isinstance(kind, torch.dtype):
        return kind
    if kind == "first":
        return tensors[0].dtype
    if kind == "result_type":
        return torch.result_type(*tensors)
    types = [each.dtype.to_real() if each.is_complex() else each.dtype for each in tensors]
    dtype = reduce(torch.promote_types, types)
    if kind != "same":
        dtype = torch.promote_types(dtype, torch.float32)
    return dtype.to_complex() if kind == "complex" else dtype
