"""Draw figures as SVG in a data URI. Their ink follows the light or dark scheme of the reader."""

import base64
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# colours of Okabe and Ito (2008), told apart by colour-blind people; changed until each has a contrast of 3 to 1 with
# white and with the dark background
COLOURS = ("#1f7bb8", "#d55e00", "#009e73", "#c46a9f", "#8c8a1a", "#808080")
DASHES = ("-", (0, (1, 1)), (0, (5, 1, 1, 1)))  # of runs with the same colour
INK, GRID = "#101418", "#c9ced4"  # replaced by variables of the style sheet
STYLE = (
    "<style>:root{--ink:#101418;--grid:#d9dde2}"
    "@media screen and (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--grid:#3a4047}}</style>"
)
OPTIONS: Any = {
    "svg.fonttype": "path",
    "svg.hashsalt": "stnrot",  # the same figure gives the same bytes
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def new_axes(xlabel: str, ylabel: str, width: float = 4.8, height: float = 3.2) -> tuple[Figure, Any]:
    """Return a figure, in inches, and its axes."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0.17, 0.5 / height, 0.97, 1 - 0.15 / height)  # a layout engine would draw everything twice
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot(xlabel=xlabel, ylabel=ylabel)


def style() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in the ink of the page."""
    return matplotlib.rc_context(OPTIONS)


def colour(number: int) -> str:
    """Return the colour of a run."""
    return COLOURS[number % len(COLOURS)]


def line_style(number: int, plain: Any = "-") -> Any:
    """Return the line style of a run: `plain`, or another one if runs before it have its colour."""
    turn = number // len(COLOURS) % len(DASHES)
    return DASHES[turn] if turn else plain


def data_uri(figure: Figure) -> str:
    """Return a figure as SVG in a data URI, with nothing that refers to another address."""
    file = StringIO()
    nothing: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    drawing = file.getvalue()
    for fixed, variable in ((INK, "var(--ink)"), (GRID, "var(--grid)")):
        drawing = drawing.replace(fixed, variable)
    start = drawing.index("<svg")  # before it: the address of the document type
    opened = drawing.index(">", start) + 1
    drawing = drawing[start:opened] + STYLE + drawing[opened:]
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"
