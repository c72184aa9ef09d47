"""What may differ between an image and its reference."""

from typing import Final, Literal, TypeAlias

MotionKind: TypeAlias = Literal["rotation", "rigid", "similarity"]
STACK_DEFAULT: Final = "rigid"  # a drift is a rotation and a shift
DEFAULT: Final = "rotation"  # where nothing is shifted, the others are no more exact and take several times as long
