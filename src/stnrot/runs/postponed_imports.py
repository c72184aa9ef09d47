"""Import Lightning without two packages that take half of the time, until something uses them.

Lightning imports two packages of which most jobs need a few names:

- `torch._dynamo`, the front end of `torch.compile`, with SymPy and Triton. Lightning asks whether a network is
  compiled, and torch's optimizers ask not to be compiled. As long as the package is not imported, nothing is compiled.
- `torchmetrics`, which imports all its metrics and, for them, scipy.signal and torchvision. Lightning needs `Metric`.

`import_lightning` puts a module with these names in the place of each package. The first use of any other name, or of a
submodule, imports the package into this module, so nothing is missing. If another release of torchmetrics needs more
names, it is imported at once, as usual.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_loader
from types import ModuleType
from typing import Any


class Postponed(ModuleType):
    """A package that is imported when a name is read that it does not hold yet."""

    def __getattr__(self, name: str) -> Any:
        """Import the package and return the attribute."""
        self.load()
        return getattr(self, name)

    def load(self) -> None:
        """Import the package into this module."""
        self.__class__: type = ModuleType
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)


class Submodules:
    """A finder and loader of submodules: it imports their postponed package first, which may import the submodule."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return None, so that Python imports the submodule, unless the package has imported it."""
        package = sys.modules.get(name.rpartition(".")[0])
        if not isinstance(package, Postponed):
            return None
        package.load()
        return spec_from_loader(name, self) if name in sys.modules else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the submodule that the package has imported."""
        module = sys.modules[spec.name]
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Keep the submodule as it is. Python has replaced its spec."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def import_lightning() -> None:
    """Import Lightning, and silence notices that the user cannot act on.

    A package that is imported already is not postponed.
    """
    if not any(isinstance(finder, Submodules) for finder in sys.meta_path):
        sys.meta_path.insert(0, Submodules())
    if "torch._dynamo" not in sys.modules:
        _postpone_dynamo()
    if "torchmetrics" not in sys.modules:
        try:
            _postpone_torchmetrics()
        except (ImportError, AttributeError):  # `Metric` of another release needs other names
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
                del sys.modules[name]
    for notice in ("treespec", "many workers", "multiple `ModelCheckpoint`", "supported by the model summary"):
        warnings.filterwarnings("ignore", f".*{notice}")
    import_module("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the import sets another level
    if logging.getLogger().handlers:
        logging.getLogger("lightning").handlers.clear()  # Hydra's handlers print warnings too


def _placed(name: str) -> Any:
    """Put a module in the place of a package."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.modules[name] = module_from_spec(spec)
    return sys.modules[name]


def _postpone_dynamo() -> None:
    import torch

    dynamo = _placed("torch._dynamo")

    class Compiled(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return not isinstance(dynamo, Postponed) and isinstance(instance, dynamo.OptimizedModule)

    class OptimizedModule(metaclass=Compiled):
        """Has the compiled networks as instances: none before the package is imported."""

    def disable(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            postponed = isinstance(dynamo, Postponed)
            return (function if postponed else dynamo.disable(function, *arguments, **options))(*args, **kwargs)

        return run

    dynamo.OptimizedModule, dynamo.disable, dynamo.graph_break = OptimizedModule, disable, lambda *_, **__: None
    dynamo.__class__ = Postponed
    torch._dynamo = dynamo


def _postpone_torchmetrics() -> None:
    package = _placed("torchmetrics")
    package._logger = logging.getLogger("torchmetrics")
    import_module("torchmetrics.utilities")  # first, because it and torchmetrics.metric import each other
    package.Metric = import_module("torchmetrics.metric").Metric
    package.MetricCollection = import_module("torchmetrics.collections").MetricCollection
    package.__version__ = import_module("torchmetrics.__about__").__version__
    package.__class__ = Postponed
