"""``terraform-provider-tendril``: what Terraform starts.

The handshake is one line on stdout, ``1|6|unix|SOCKET|grpc|CERTIFICATE``; nothing else may be written there. The
certificate is made anew for every process (elliptic curve, a millisecond) and never written to disk.
"""

from __future__ import annotations

import base64
import datetime
import os
import sys
import tempfile
import threading
import time
from concurrent import futures
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tf.gen import grpc_controller_pb2 as controller_pb
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2_grpc as rpc

from tendril_terraform import VERSION
from tendril_terraform.planning import Servicer
from tendril_terraform.provider import TendrilProvider

WORKERS = 64  # Terraform's parallelism is 10 unless told otherwise; waiting must not keep others waiting
COOKIE = "TF_PLUGIN_MAGIC_COOKIE"


class _Controller(controller_rpc.GRPCControllerServicer):
    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def Shutdown(self, request: Any, context: Any) -> Any:
        self._over.set()
        return controller_pb.Empty()


class _Stdio(stdio_rpc.GRPCStdioServicer):
    def StreamStdio(self, request: Any, context: Any) -> Any:
        return iter(())


def certificate() -> tuple[bytes, bytes, bytes]:
    """A key and a certificate for this process: PEM key, PEM certificate, DER certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding
    plain = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain, made.public_bytes(encoding.PEM), made.public_bytes(encoding.DER)


def own_servicer() -> tuple[str, rpc.ProviderServicer]:
    """Tendril's address, and what answers for it."""
    provider = TendrilProvider()
    servicer = Servicer(provider)
    servicer.stop = provider.stop  # type: ignore[method-assign]
    return provider.full_name(), servicer


def serve_rpc(servicer: rpc.ProviderServicer) -> None:
    """Answer until Terraform says that it is over."""
    over = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS))
    rpc.add_ProviderServicer_to_server(servicer, server)
    controller_rpc.add_GRPCControllerServicer_to_server(_Controller(over), server)
    stdio_rpc.add_GRPCStdioServicer_to_server(_Stdio(), server)
    with tempfile.TemporaryDirectory(prefix="tendril-tf-") as folder:
        key, chain, der = certificate()
        server.add_secure_port(f"unix://{folder}/s", grpc.ssl_server_credentials([(key, chain)]))
        server.start()
        said = base64.b64encode(der).decode().rstrip("=")
        sys.stdout.write(f"1|6|unix|{folder}/s|grpc|{said}\n")
        sys.stdout.flush()
        over.wait()
        server.stop(grace=1).wait()


def main() -> None:
    """The console script."""
    if COOKIE not in os.environ:
        sys.stderr.write(f"terraform-provider-tendril {VERSION}: Terraform starts this by itself; see the reference.\n")
        raise SystemExit(2)
    serve_rpc(own_servicer()[1])


if __name__ == "__main__":
    main()
