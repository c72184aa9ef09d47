"""What the frames of a stack are aligned to."""

from typing import Final, Literal, TypeAlias

ReferenceKind: TypeAlias = Literal["first", "previous", "mean"]
FIRST: Final = "first"  # the default
