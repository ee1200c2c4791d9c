"""The provider's schema is the API's: the files it carries are what the models say, and Terraform sees every field."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from tests.terraform.conftest import ADDRESS, DEPLOY, HEAD, Work

RENAMED = {"provider": "provider_id"}


def load(name: str) -> Any:
    """A tool of ``deploy/terraform/tools``."""
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_the_provider_carries_are_what_the_models_say() -> None:
    tool = load("api_schema")
    stale = [name for name, text in tool.texts().items() if (tool.PACKAGE / name).read_text() != text]
    assert stale == [], "run python deploy/terraform/tools/api_schema.py"


def test_terraform_sees_every_field_and_the_reference_shows_it(alone: Work) -> None:
    alone.write(HEAD)
    alone.run("init", "-no-color")
    shown = json.loads(alone.run("providers", "schema", "-json").stdout)["provider_schemas"][ADDRESS]
    for kind, part in load("api_schema").api()["kinds"].items():
        fields = {RENAMED.get(name, name) for name in part["body"]["properties"]}
        for where in ("resource_schemas", "data_source_schemas"):
            attributes = shown[where][f"tendril_{kind}"]["block"]["attributes"]
            assert fields - set(attributes) == set(), (where, kind)
        required = {RENAMED.get(name, name) for name in (*part["body"].get("required", ()), "id")}
        attributes = shown["resource_schemas"][f"tendril_{kind}"]["block"]["attributes"]
        assert {name for name, one in attributes.items() if one.get("required")} == required, kind
    token = shown["resource_schemas"]["tendril_join_token"]["block"]["attributes"]["token"]
    assert token["sensitive"] and shown["provider"]["block"]["attributes"]["key"]["sensitive"]
    tool = load("reference")
    page = (DEPLOY.parents[1] / "docs/reference/terraform.md").read_text()
    assert page == tool.page(shown), "run python deploy/terraform/tools/reference.py"
