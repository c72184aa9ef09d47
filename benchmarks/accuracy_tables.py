"""The tables of the accuracy benchmark: which models are trained in which experiment, with which options."""

Rows = dict[str, list[str]]  # options of each
DEFORMED = ["data/augment=deform", "data.augment.turn_deg=8"]
MODELS = {
    "rot_stn": [],
    "rot_stn, encoder=cnn": ["model/encoder=cnn"],
    "affine_stn": ["model=affine_stn", *DEFORMED],
    "cnn": ["model=cnn", *DEFORMED],
}
TURNED = ["data/augment=deform", "data.augment.turn_deg=180"]
ONLY_TURNED = TURNED + [f"data.augment.{kind}=0" for kind in ("stretch", "shift", "elastic")]
STORED_TURNED = {
    "rot_stn": [],
    "rot_stn, encoder=cnn": ["model/encoder=cnn", *ONLY_TURNED],
    "affine_stn": ["model=affine_stn", *ONLY_TURNED],
    "cnn": ["model=cnn", *ONLY_TURNED],
}
STARTS = (1, 2, 3, 4)  # short runs with such seeds; one with that of its row begins at the best epoch of the likeliest
EPOCHS_OF_START = {"rotated_digits": 5, "mnist_rot": 1}
STARTED = f"rot_stn, no angle labels, best of {len(STARTS)} starts"
UNLABELLED = {
    "rot_stn, no angle labels": ["task.angle_weight=0"],
    STARTED: ["task.angle_weight=0"],
    "rot_stn, no angle labels, self-supervised": ["task.angle_weight=0", "task.consistency_weight=0.1"],
    "rot_stn, no angle labels, learned picture": ["task.angle_weight=0", "model.reference=learned"],
}
MEMBERS = (1, 2, 3)
ENSEMBLES = {"mnist_rot": "rot_stn"}  # table: row whose runs are put together
FEW = (100, 300, 1000, 3000)
BEHIND = ["model.augment.turn_deg=25"]  # few labels leave the encoder further off, and the classifier is to expect that
# keep the search from learning them by heart; at 3,000 no difference on validation (one seed), but the angle is further
# off, 10.3 degrees for 7.1 (the test had been seen by then: docs/results/about.md)
BY_HEART = {n: ["model.encoder.dropout_circles=0.5", "task.angle_spread_deg=16"] for n in (100, 300, 1000)}


def few_models(n: int) -> Rows:
    """Return the rows of n training pictures."""
    models = STORED_TURNED | {
        "rot_stn": [*BEHIND, *BY_HEART.get(n, [])],
        "rot_stn, encoder=cnn": [*STORED_TURNED["rot_stn, encoder=cnn"], *BEHIND],
        "cnn, also deformed": ["model=cnn", *TURNED],
    }
    size = [f"data.n_train={n}", f"data.repeats={48_000 // n}"]
    return {name: [*options, *size] for name, options in models.items()}


CURVES = ("rot_stn", "rot_stn, encoder=cnn", "affine_stn", "cnn", "cnn, also deformed")
EXPERIMENTS: dict[str, tuple[str, Rows]] = {  # name of a table: experiment, rows
    "rotated_digits": ("rotated_digits", MODELS | {"rot_stn, hypotheses=1": ["model.hypotheses=1"]} | UNLABELLED),
    "mnist_rot": ("mnist_rot", STORED_TURNED | UNLABELLED),
    "mnist_r90": ("mnist_r90", MODELS),
    **{f"few_labels_{n}": ("few_labels", few_models(n)) for n in FEW},
    "upright_angle": ("upright_angle", {name: options for name, options in MODELS.items() if name != "cnn"}),
    "upright_only": (
        "upright_only",
        MODELS
        | {"rot_stn, blur=1.6": ["model.encoder.blur=1.6"]}
        | {"rot_stn, blur=1.6, learned picture": ["model.encoder.blur=1.6", "model.reference=learned"]},
    ),
}
