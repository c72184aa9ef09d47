"""Import Lightning without two packages that take half of the time, until something uses them.

Lightning imports two packages of which most jobs need a few names:

- `torch._dynamo`, the front end of `torch.compile`, with SymPy. Lightning asks whether a network is compiled, and
  torch's optimizers ask not to be compiled. As long as the package is not imported, nothing is compiled.
- `torchmetrics`, which imports all its metrics and, for them, scipy.signal, torchvision and `torch._dynamo`. Lightning
  needs `Metric` and `MetricCollection`.

`import_lightning` puts a module with these names in the place of each package. The first use of any other name, or of a
submodule, imports the package into this module, so nothing is missing. If another release of a package needs more
names, it is imported at once, as usual. Only a job does so: `import stnrot` changes no import, and neither does a
process that a job spawns.
"""

import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_loader
from types import ModuleType
from typing import Any

LOADING = threading.RLock()


class Postponed(ModuleType):
    """A package that is imported when a name is read that it does not hold yet."""

    def __getattr__(self, name: str) -> Any:
        """Import the package and return the attribute."""
        self.load()
        if isinstance(self, Postponed):  # the package, while it is imported, asks for a name that it lacks
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)

    def load(self, wait: bool = True) -> None:
        """Import the package into this module. An error leaves the package postponed.

        Args:
            wait: for another thread that imports a package.
        """
        if not LOADING.acquire(blocking=wait):
            return
        try:
            if isinstance(self, Postponed) and "_loading" not in self.__dict__:
                assert self.__spec__ is not None
                assert self.__spec__.loader is not None
                self._loading = True
                try:
                    self.__spec__.loader.exec_module(self)
                finally:
                    del self._loading
                self.__class__: type = ModuleType
        finally:
            LOADING.release()


class Submodules:
    """A finder and loader of submodules: it imports their postponed package first, which may import the submodule."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return None, so that Python imports the submodule, unless the package has imported it."""
        package = sys.modules.get(name.rpartition(".")[0])
        if not isinstance(package, Postponed):
            return None
        package.load(wait=False)  # this thread has the import lock of the submodule, for which the other may wait
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


FINDER = Submodules()


def import_lightning() -> None:
    """Import Lightning, and silence notices that the user cannot act on."""
    notices = ("treespec", "many workers", "multiple `ModelCheckpoint`", "supported by the model summary")
    # the loader is as it should be, see `TrainingBatches`; a job without srun is fine, see `launched`;
    # nothing writes into the views that a model returns; the accuracy is that of all processes when it is logged
    needless = (
        "your dataloader is",
        "`srun` command is available",
        "FSDP2-wrapped module",
        r"self.log\('\w+/accuracy'",
    )
    for notice in (*notices, *needless):
        warnings.filterwarnings("ignore", f".*{notice}")
    if "lightning" not in sys.modules:
        collecting = gc.isenabled()
        gc.disable()  # a module is no garbage; looking for some takes a tenth of the time of the imports
        try:
            postpone("torch._dynamo", _dynamo)
            postpone("torchmetrics", _torchmetrics)
            import_module("lightning")
        finally:
            if collecting:
                gc.enable()
        gc.freeze()  # what is imported stays
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the import sets another level
    if logging.getLogger().handlers:
        logging.getLogger("lightning").handlers.clear()  # Hydra's handlers print warnings too


def postpone(name: str, stand_in: Callable[[Any], None]) -> None:
    """Put a module in the place of a package that is not imported yet.

    Args:
        stand_in: puts names into the module that can be read without an import of the package. If it fails, the package
            is imported as usual.
    """
    if name in sys.modules:
        return
    try:
        spec = find_spec(name)
        if spec is None:
            return
        package: Any = module_from_spec(spec)
        sys.modules[name] = package
        stand_in(package)
    except Exception:
        for loaded in [each for each in sys.modules if f"{each}.".startswith(f"{name}.")]:
            del sys.modules[loaded]
        return
    package.__class__ = Postponed
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


def _dynamo(package: Any) -> None:
    """Hold what Lightning and torch's optimizers ask for in a process that compiles nothing."""
    import torch

    class Compiled(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return not isinstance(package, Postponed) and isinstance(instance, package.OptimizedModule)

    class OptimizedModule(metaclass=Compiled):
        """Has the compiled networks as instances: none before the package is imported."""

    def disable(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            postponed = isinstance(package, Postponed)
            return (function if postponed else package.disable(function, *arguments, **options))(*args, **kwargs)

        return run

    package.OptimizedModule, package.disable, package.graph_break = OptimizedModule, disable, lambda *_, **__: None
    torch._dynamo = package


def _torchmetrics(package: Any) -> None:
    """Hold the base classes of metrics."""
    package._logger = logging.getLogger("torchmetrics")
    import_module("torchmetrics.utilities")  # first, because it and torchmetrics.metric import each other
    package.Metric = import_module("torchmetrics.metric").Metric
    package.MetricCollection = import_module("torchmetrics.collections").MetricCollection
    package.__version__ = import_module("torchmetrics.__about__").__version__
