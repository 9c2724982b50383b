"""The files of deploy/ name commands, options, variables and pages that exist, and keep to their own rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from helix_fast.cli.app import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def commands_of_dockerfile() -> list[list[str]]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    serve = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)[0]
    probe = re.findall(r"^HEALTHCHECK .* CMD \[(.*)\]$", text, re.MULTILINE)[0]
    return [re.findall(r'"([^"]+)"', serve), re.findall(r'"([^"]+)"', probe)[1:]]


def probe_of_kubernetes() -> list[str]:
    (document,) = yaml.safe_load_all((DEPLOY / "kubernetes" / "worker.yml").read_text("utf-8"))
    (container,) = document["spec"]["template"]["spec"]["containers"]
    command: list[str] = container["readinessProbe"]["exec"]["command"]
    assert command[0] == "helix-fast"
    assert document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 30 + 5, "drain, and preStop"
    return command[1:]


@pytest.mark.parametrize("words", [*commands_of_dockerfile(), probe_of_kubernetes()], ids=" ".join)
def test_commands_of_images_and_probes_exist(words: list[str]) -> None:
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], words[1:]).close()


def test_the_image_runs_as_nobody_and_has_no_secret_in_its_arguments() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert re.search(r"^USER \d+:\d+$", text, re.MULTILINE)
    assert "token" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE).lower()
    assert text.count("\nFROM ") == 2


def test_compose_file_is_valid_and_exposes_nothing_but_the_page_to_this_machine() -> None:
    path = DEPLOY / "compose.yml"
    check = [sys.executable, "-m", "check_jsonschema", "-q", "--builtin-schema", "vendor.compose-spec", str(path)]
    assert subprocess.run(check, check=False).returncode == 0
    services: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8700:8700"]
    assert {"noeviction", "yes"} <= set(services["valkey"]["command"])
    assert all("ports" not in service for name, service in services.items() if name != "live-page")
