"""``schema_only_provider.py FOLDER SCHEMA…``: give Terraform a provider that has its schema and nothing else.

A schema file holds one provider of ``terraform providers schema -json`` and is called
``HOST__NAMESPACE__NAME__VERSION.json.gz``. For each one this writes an executable into ``FOLDER/mirror`` that answers
with that schema, accepts every configuration, and refuses to do anything else: enough for ``init``, ``validate`` and a
mocked ``test``. ``schema_only_provider.py serve SCHEMA`` is what those executables run, with the Python of
``deploy/terraform/provider/.venv``.

``schema_only_provider.py stay SCHEMA…``, with that Python, serves all of them and Tendril's own provider until its
input ends, and prints what ``TF_REATTACH_PROVIDERS`` must be. Terraform then starts no provider for any command, which
is most of the time that a command takes.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

PROVIDER = Path(__file__).resolve().parents[1] / "provider"
PYTHON = PROVIDER / ".venv/bin/python"
PLATFORM = "linux_amd64"
Json = dict[str, Any]


def lay_out(mirror: Path, schema: Path) -> Path:
    """Write the executable for one schema file where a filesystem mirror has it."""
    host, namespace, name, version = schema.name.removesuffix(".json.gz").split("__")
    place = mirror / host / namespace / name / version / PLATFORM
    place.mkdir(parents=True, exist_ok=True)
    script = place / f"terraform-provider-{name}_v{version}"
    words = [str(PYTHON), str(Path(__file__).resolve()), "serve", str(schema.resolve())]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n", encoding="utf-8")
    script.chmod(0o755)
    return script


def _attribute(name: str, told: Json) -> Json:
    """One attribute as the protocol has it; the real provider's checks of values are not in a schema."""
    made: Json = {key: told[key] for key in ("required", "optional", "computed", "sensitive") if key in told}
    if "nested_type" not in told:
        return {"name": name, **made, "type": json.dumps(told["type"]).encode()}
    nested = told["nested_type"]
    members = [_attribute(*one) for one in nested["attributes"].items()]
    return {"name": name, **made, "nested_type": {"attributes": members, "nesting": nested["nesting_mode"].upper()}}


def _block(told: Json) -> Json:
    """A block with its attributes and its blocks."""
    nested = [
        {
            "type_name": name,
            "nesting": one["nesting_mode"].upper(),
            "min_items": one.get("min_items", 0),
            "max_items": one.get("max_items", 0),
            "block": _block(one["block"]),
        }
        for name, one in told.get("block_types", {}).items()
    ]
    return {"attributes": [_attribute(*one) for one in told.get("attributes", {}).items()], "block_types": nested}


def _servicer(path: Path) -> Any:
    """What answers for one schema."""
    from tf.gen import tfplugin_pb2 as pb
    from tf.gen import tfplugin_pb2_grpc as rpc

    with gzip.open(path) as file:
        told = json.load(file)

    def made(one: Json) -> Any:
        return pb.Schema(version=one.get("version", 0), block=_block(one["block"]))

    class SchemaOnly(rpc.ProviderServicer):  # type: ignore[misc]
        """What a configuration is checked against; whatever would touch a cloud stays unimplemented."""

        def GetProviderSchema(self, request: Any, context: Any) -> Any:
            return pb.GetProviderSchema.Response(
                provider=made(told["provider"]),
                resource_schemas={name: made(one) for name, one in told["resource_schemas"].items()},
                data_source_schemas={name: made(one) for name, one in told["data_source_schemas"].items()},
            )

        def ValidateProviderConfig(self, request: Any, context: Any) -> Any:
            return pb.ValidateProviderConfig.Response()

        def ValidateResourceConfig(self, request: Any, context: Any) -> Any:
            return pb.ValidateResourceConfig.Response()

        def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:
            return pb.ValidateDataResourceConfig.Response()

        def StopProvider(self, request: Any, context: Any) -> Any:
            return pb.StopProvider.Response()

    return SchemaOnly()


def serve(path: Path) -> None:
    """Answer Terraform until it hangs up."""
    from tendril_terraform.main import serve_rpc

    serve_rpc(_servicer(path))


def stay(schemas: list[Path]) -> None:
    """Answer every Terraform that is told where, until standard input ends."""
    import tempfile
    from concurrent import futures

    import grpc
    from tendril_terraform.main import own_servicer
    from tf.gen import tfplugin_pb2_grpc as rpc

    found = {"/".join(schema.name.split("__")[:3]): _servicer(schema) for schema in schemas}
    address, found[address] = own_servicer()
    with tempfile.TemporaryDirectory(prefix="tendril-tf-") as folder:
        told, servers = {}, []
        for number, (name, servicer) in enumerate(sorted(found.items())):
            server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
            rpc.add_ProviderServicer_to_server(servicer, server)
            server.add_insecure_port(f"unix://{folder}/{number}")
            server.start()
            servers.append(server)
            place = {"Network": "unix", "String": f"{folder}/{number}"}
            told[name] = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": place}
        print(json.dumps(told), flush=True)
        sys.stdin.read()


def main() -> None:
    """The command."""
    if sys.argv[1] in ("serve", "stay"):
        sys.path.insert(0, str(PROVIDER))
        named = [Path(name) for name in sys.argv[2:]]
        serve(named[0]) if sys.argv[1] == "serve" else stay(named)
        return
    for schema in sys.argv[2:]:
        print(lay_out(Path(sys.argv[1]).resolve() / "mirror", Path(schema)))


if __name__ == "__main__":
    main()
