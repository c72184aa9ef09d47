"""The rows of the ablations: the default model, then with one choice changed."""

from harness.accuracy_tables import Rows

DEFAULT = "default"
MNIST, PHOTOGRAPHS = "mnist_rot", "photographs"


def _changed(budget: str, *changes: str) -> Rows:
    """Return a row for each change of one option, all with the same budget."""
    return {DEFAULT: [budget]} | {change: [budget, change] for change in changes}


ABLATIONS: dict[str, tuple[str, Rows]] = {  # table: experiment, rows
    MNIST: (
        "mnist_rot",
        _changed(
            "trainer.max_epochs=1",
            *(f"model.hypotheses={count}" for count in (1, 2, 5)),
            *(f"model.encoder.radii={count}" for count in (8, 24)),
            *(f"model.encoder.angles={count}" for count in (32, 128)),
            *(f"model.encoder.blur={blur}" for blur in (0.4, 1.6)),
            "model.reference=learned",
            *(f"model.interpolation={name}" for name in ("bicubic", "lanczos")),
            "model/augment=null",
            *(f"model.augment.{kind}=0" for kind in ("turn_deg", "stretch", "shift", "elastic")),
        ),
    ),
    PHOTOGRAPHS: (
        "upright_photos",
        _changed(
            "trainer.max_epochs=3",
            *(f"model.encoder.width={width}" for width in (4, 12)),
            *(f"model.encoder.angles={count}" for count in (32, 128)),
            "model.encoder.dropout=0",
            "model.encoder.mirrored=false",
            "model.reference=learned",
            "task.angle_spread_deg=0",
            "data.augment.mirror=0",
            "data/augment=null",
        ),
    ),
}
