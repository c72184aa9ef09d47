"""Rotation-only spatial transformer networks: learn to undo rotation.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so `import stnrot` is fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
