"""The public-key infrastructure of one local cluster: an authority, server and client certificates.

Kubernetes reads a client certificate's common name as the user and its organisations as the groups
(kubernetes.io/docs, "Authenticating", X509 client certificates), so a certificate for
`system:serviceaccount:<namespace>:<name>` has exactly the rights RBAC gives that service account. Keys
are ECDSA P-256: made in a millisecond. Files with keys are readable by their owner only. A cluster's
authority lives in its own folder and is thrown away with it; nothing here is meant for production.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 365
_BACKDATED = datetime.timedelta(minutes=5)  # another clock may run a little behind
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is to the API server."""

    user: str
    groups: tuple[str, ...] = ()


ADMIN = Identity("slicewise-local-admin", ("system:masters",))
SCHEDULER = Identity("system:kube-scheduler")
CONTROLLER_MANAGER = Identity("system:kube-controller-manager")
KWOK = Identity("kwok", ("system:masters",))


def service_account(namespace: str, name: str) -> Identity:
    """The identity under which RBAC knows a service account."""
    return Identity(
        f"system:serviceaccount:{namespace}:{name}",
        ("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
    )


class Authority:
    """A certificate authority that writes what it issues into one folder."""

    def __init__(self, folder: Path, now: datetime.datetime) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._not_before = now - _BACKDATED
        self._not_after = now + datetime.timedelta(days=VALID_DAYS)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slicewise-local-ca")])
        usage = _key_usage(signs_certificates=True)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str, addresses: Sequence[str] = ("127.0.0.1", "10.96.0.1")) -> KeyPair:
        """A certificate for a server, by default on loopback (and the API server's names in a cluster).

        addresses: IP addresses and DNS names.
        """
        names: list[x509.GeneralName] = [x509.DNSName(dns) for dns in _SERVER_NAMES]
        names += [_general_name(address) for address in addresses]
        return self._issue(name, Identity(name), ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, file_name: str, identity: Identity) -> KeyPair:
        """A certificate that makes its bearer `identity`."""
        return self._issue(file_name, identity, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def signing_key(self, name: str) -> KeyPair:
        """A bare key pair for signing service-account tokens; `certificate` is the public key."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        pair = KeyPair(self._folder / f"{name}.pub", self._folder / f"{name}.key")
        pair.certificate.write_bytes(public)
        _write_private(pair.key, _pem(key))
        return pair

    def _issue(
        self, name: str, identity: Identity, purpose: x509.ObjectIdentifier, names: Sequence[x509.GeneralName]
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
        # X.520 limits a common name to 64 characters; Kubernetes and Go do not mind longer ones.
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, identity.user, _validate=False))
        builder = (
            self._builder(x509.Name(attributes), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        certificate = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_private(pair.key, _pem(key))
        return pair

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._not_before)
            .not_valid_after(self._not_after)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(authority, critical=False)
        )


def write_kubeconfig(path: Path, url: str, authority: Path, pair: KeyPair, user: str, cluster: str) -> Path:
    """Write a kubeconfig that carries its certificates inside, so that it can be copied anywhere.

    JSON is YAML: every client reads it.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": url, "certificate-authority-data": _base64(authority)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    _write_private(path, (json.dumps(document, indent=2) + "\n").encode())
    return path


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
