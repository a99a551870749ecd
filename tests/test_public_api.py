from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import zerorouter

NAMES = {
    "Catalog": "zerorouter.catalog",
    "Decision": "zerorouter.routing.decision",
    "LatentSpace": "zerorouter.space",
    "ModelSpec": "zerorouter.catalog",
    "Policy": "zerorouter.routing.policy",
    "ResponseMatrix": "zerorouter.data.responses",
    "Router": "zerorouter.router",
    "ZeroRouterError": "zerorouter.errors",
    "calibrate": "zerorouter.calibrating",
}


def test_the_promised_names_are_all_there_and_sorted():
    assert set(zerorouter.__all__) >= {*NAMES, "__version__"}
    assert zerorouter.__all__ == sorted(zerorouter.__all__)
    assert dir(zerorouter) == zerorouter.__all__


@pytest.mark.parametrize("name", zerorouter.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(zerorouter, name) is not None


@pytest.mark.parametrize(("name", "home"), NAMES.items())
def test_a_public_name_is_the_thing_itself(name, home):
    assert getattr(zerorouter, name) is getattr(importlib.import_module(home), name)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Ruter'"):
        zerorouter.Ruter  # noqa: B018  # the access is the test


def test_every_error_raised_on_purpose_is_a_zerorouter_error():
    from zerorouter import errors

    raised = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(raised) > 10
    assert all(issubclass(error, errors.ZeroRouterError) for error in raised)
    drawn = errors.__doc__ or ""
    assert [e.__name__ for e in raised if e.__name__ not in drawn] == []


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert zerorouter.__version__ == version("zerorouter")


def test_importing_the_package_loads_nothing_else_and_opens_no_socket():
    code = (
        "import sys, socket\n"
        "def refuse(*_): raise AssertionError('a socket was opened')\n"
        "socket.socket = socket.create_connection = refuse\n"
        "before = set(sys.modules)\n"
        "import zerorouter\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("['zerorouter']", "")
