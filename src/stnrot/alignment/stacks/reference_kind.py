"""What the frames of a stack are aligned to."""

from typing import Literal, TypeAlias

ReferenceKind: TypeAlias = Literal["first", "previous", "mean"]
