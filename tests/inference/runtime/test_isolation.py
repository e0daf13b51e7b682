"""A model runs in this process or in one of its own, as its package says."""

from __future__ import annotations

import subprocess
import sys

from inference.runtime.child_session import ChildSessionProvider
from inference.runtime.function_session import FunctionSessionProvider
from inference.runtime.isolation import provider_for

LOADED = """
import sys
from inference.runtime.isolation import provider_for
from inference.runtime.session import OnnxSessionProvider
provider = OnnxSessionProvider()
assert provider_for("thread", provider) is provider
before = {name for name in sys.modules if "child" in name and name.startswith("inference")}
provider_for("process", provider)
print(sorted(before), "inference.runtime.child_session" in sys.modules, "onnxruntime" in sys.modules)
"""


def test_a_model_is_loaded_by_what_its_isolation_asks_for() -> None:
    in_thread = FunctionSessionProvider({})
    assert provider_for("thread", in_thread) is in_thread
    assert isinstance(provider_for("process", in_thread), ChildSessionProvider)


def test_who_has_no_isolated_model_loads_nothing_for_one() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"
