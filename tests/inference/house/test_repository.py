"""The repository speaks of the product only, and carries what a stranger needs."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.inference.house.source import ROOT

FILE_BYTES_MAX = 8 * 1024 * 1024
# Written with brackets, so that this file does not name them either.
STRANGE = re.compile(
    "p[y]pi[.]org|pythonh[o]sted|registry[.]np[m]|deb[.]debi[a]n|gh[c]r[.]io|/w[o]rk/|/f[a]rm/|/r[o]ot/|/h[o]me/\\w+/"
)


def repository_files() -> list[str]:
    """Files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_host_or_machine_path_is_named() -> None:
    named = []
    for name in repository_files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:4096]:
            for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
                if STRANGE.search(line):
                    named.append(f"{name}:{number}: {line.strip()[:80]}")
    assert named == []


def test_no_file_is_large() -> None:
    assert [name for name in repository_files() if (ROOT / name).stat().st_size > FILE_BYTES_MAX] == []


def test_bundled_models_stay_under_20_mb() -> None:
    total = sum((ROOT / name).stat().st_size for name in repository_files() if name.startswith("models/"))
    assert 0 < total < 20_000_000


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run", "requirements.txt"])
def test_what_a_stranger_looks_for_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 100


def test_every_folder_is_on_the_map() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = {name.split("/")[0] for name in repository_files() if "/" in name}
    assert {folder for folder in folders if not folder.startswith(".") and f"`{folder}/" not in readme} == set()


def test_links_inside_the_documents_lead_somewhere() -> None:
    broken = []
    for name in repository_files():
        if name.endswith(".md"):
            path = ROOT / name
            for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
                file = target.split("#")[0]
                if file and not re.match(r"[a-z]+:", file) and not (path.parent / file).exists():
                    broken.append(f"{name}: {target}")
    assert broken == []
