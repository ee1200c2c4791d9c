"""For all tests: where ``CI`` is set, an unexpected skip is a failure: CI has all that a test may need."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# No time is asserted, not even by the property tests: a slow machine is no finding.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# Facts about the machine that nothing in the repository can change: where the checkout lies, what the kernel has.
EXPECTED = (
    "as root, PostgreSQL needs another user",
    "no IPv6 on this machine",
    "no Terraform 1.11 or newer on this machine",
    "no gcc with AddressSanitizer on this machine",
    "is not installed: make clouds",  # CI runs that too, after these
)
_skipped: list[str] = []
_unexpected: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers come last: their worlds live, and compute, until the process that runs the tests ends."""
    items.sort(key=lambda item: item.nodeid.startswith("tests/browser/"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember every skip with its reason."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason}")
        if not any(expected in reason for expected in EXPECTED):
            _unexpected.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn unexpected skips into a failed run."""
    if os.environ.get("CI") and _unexpected and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped and why."""
    for line in _skipped:
        terminalreporter.write_line(f"SKIPPED {line}")
    if _unexpected and os.environ.get("CI"):
        terminalreporter.write_line(f"{len(_unexpected)} unexpected skips fail in CI")
