"""How long the fuzz tests look: EOSIN_FUZZ_SECONDS, about two seconds a test where it is not set."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

DEFAULT_SECONDS = 2.0


def fuzz_seconds() -> float:
    """Seconds one fuzz test should take, as EOSIN_FUZZ_SECONDS says."""
    return max(0.1, float(os.environ.get("EOSIN_FUZZ_SECONDS", DEFAULT_SECONDS)))


def fuzz_settings(examples_a_second: float = 20, derandomize: bool = True) -> settings:
    """Settings of one fuzz test.

    The number of examples, not the clock, ends a test, so that two runs with one value of the variable look at the
    same examples. `examples_a_second` says how many the reader under test manages on a slow core.
    """
    return settings(
        max_examples=max(1, round(fuzz_seconds() * examples_a_second)),
        derandomize=derandomize,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )
