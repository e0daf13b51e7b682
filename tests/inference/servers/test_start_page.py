"""The start page is whole, comes from this server alone, and shows a person what is served."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.servers.start_page import FILES
from tests.inference import tiny_models
from tests.inference.live_server import LiveServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.package(folder, "adder", 1, tiny_models.adder)
    tiny_models.package(folder, "broken", 1, tiny_models.corrupt)
    with LiveServer(folder, ["--required", "adder"]) as running:
        yield running


@pytest.mark.parametrize("path", FILES)
def test_each_file_comes_with_its_type_and_a_strict_policy(server: LiveServer, path: str):
    reply = server.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"] == FILES[path][1].decode()
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in reply.headers["content-security-policy"]


def test_the_page_holds_nothing_that_its_policy_forbids(server: LiveServer):
    html = server.get("/").body.decode()
    assert not re.search(r"<style|style=|<script>|\son\w+=|https?://", html)
    script = server.get("/start_page.js").body.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", script)
    assert not re.search(r"@import|url\(|https?://", server.get("/start_page.css").body.decode())


def test_every_link_is_served(server: LiveServer):
    html = server.get("/").body.decode()
    links = set(re.findall(r'(?:href|src)="([^"]+)"', html))
    assert {"/metrics", "/openapi.json", "/health/ready", "/start_page.js"} <= links
    for link in links:
        assert server.get(link).status == 200, link


def test_every_element_that_the_script_asks_for_is_on_the_page(server: LiveServer):
    wanted = set(re.findall(r'page\("(\w+)"\)', server.get("/start_page.js").body.decode()))
    present = set(re.findall(r'id="(\w+)"', server.get("/").body.decode()))
    assert wanted
    assert wanted <= present


def test_the_page_is_served_to_get_and_head_only(server: LiveServer):
    assert server.call("HEAD", "/").status == 200
    assert server.call("POST", "/", b"{}").status == 405


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_the_models_and_a_form(server: LiveServer, tmp_path: Path):
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=4000", "--dump-dom", f"{server.url}/"),
    ]
    done = subprocess.run([str(CHROMIUM), *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    page = done.stdout
    assert 'class="state good"' in page
    assert "adder / 1" in page
    assert '<option value="adder/1">' in page
    assert "model.onnx" in page, "the broken model tells why"
    assert "curl -s" in page
    assert 'value="broken/1"' not in page
