"""Property tests: a few examples every day, 2,000 with `pytest -m slow`."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

EXAMPLES = [30, pytest.param(2000, marks=pytest.mark.slow)]


def property_test(**strategies: SearchStrategy) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on examples of these strategies. Its other parameters are fixtures and `pytest.mark.parametrize`.

    The examples are the same in every run.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("examples", EXAMPLES)
        def run(examples: int, **parameters: Any) -> None:
            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(**strategies)
            def each(**drawn: Any) -> None:
                test(**drawn, **parameters)

            each()

        signature = inspect.signature(test)
        other = [each for name, each in signature.parameters.items() if name not in strategies]
        first = inspect.Parameter("examples", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = signature.replace(parameters=[first, *other])  # type: ignore[attr-defined]
        run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
        run.__module__ = test.__module__
        return run

    return decorate
