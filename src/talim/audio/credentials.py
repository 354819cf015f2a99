"""Content credentials (C2PA): a signed statement inside a sound file that a model made it, through c2pa-python.

A signature shows with which certificate the file was signed, and that it was not changed since. Any program can
remove it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, temporary_name
from talim.audio.errors import AudioError
from talim.audio.provenance import generated_by, given_seconds
from talim.errors import TalimError, UsageError
from talim.version import __version__

VARIABLE = "TALIM_CERTIFICATE"  # the environment variable with the file of certificate and key
FORMATS = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".mp4": "audio/mp4"}
INSTALL = "pip install '.[credentials]'"
YEARS_VALID = 5  # of a self-made certificate
# IPTC's digital source types: made by a model as a whole, or a given sound with what a model made
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, COMPOSITE = f"{SOURCE_TYPES}trainedAlgorithmicMedia", f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_UNTRUSTED = "signingCredential.untrusted"  # of no certificate authority that the library knows: any self-made one
_KEY_USAGES = (  # of X.509, as `cryptography` names them
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_SIGNATURES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}  # by curve, as C2PA names them


@dataclass(frozen=True)
class Certificate:
    """What signs files: a chain of certificates (PEM, the signer's first), its private key (PEM), the algorithm."""

    chain: bytes
    key: bytes
    algorithm: str  # "ES256", as C2PA names it


@dataclass(frozen=True)
class Credentials:
    """What a file's content credentials say."""

    intact: bool  # not changed after it was signed, and the signature is right
    problems: tuple[str, ...]  # C2PA's codes of what is not
    trusted: bool  # the certificate is one that a known authority has given out
    signer: str
    signed_at: str  # of a time stamp; "" where there is none
    software: str
    generated: bool  # says that a model made the sound, or a part of it
    description: str


def require_package() -> Any:
    """The module c2pa; TalimError with how to install it."""
    try:
        import c2pa
        import cryptography  # noqa: F401
    except ImportError as error:
        raise TalimError(
            f"content credentials need {error.name}; in the folder of talim's source type: {INSTALL}"
        ) from None
    return c2pa


def certificate_in_use() -> Certificate | None:
    """The certificate that the environment variable TALIM_CERTIFICATE names; None where it is not set.

    UsageError for a file that is no certificate with its key, or whose time is over.
    """
    path = os.environ.get(VARIABLE)
    return load_certificate(Path(path)) if path else None


def load_certificate(path: Path) -> Certificate:
    """The certificate chain and the key of a PEM file; UsageError where they do not fit, or the time is over."""
    require_package()
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    try:
        data = path.read_bytes()
        chain = x509.load_pem_x509_certificates(data)
        key: Any = serialization.load_pem_private_key(data, None)
    except OSError as error:
        raise UsageError(f"{VARIABLE}={path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{VARIABLE}={path}: expected a PEM file with the signer's certificate, those above it and the private key "
            "without a password; `talim origin certificate FILE --name NAME` makes one"
        ) from error
    first, now = chain[0], datetime.datetime.now(datetime.UTC)
    if key.public_key() != first.public_key():
        raise UsageError(f"{VARIABLE}={path}: the private key is not that of the first certificate in the file")
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        start, end = (f"{day:%Y-%m-%d}" for day in (first.not_valid_before_utc, first.not_valid_after_utc))
        raise UsageError(f"{VARIABLE}={path}: the certificate is valid from {start} to {end}, not today")
    return Certificate(
        chain=b"".join(link.public_bytes(encoding) for link in chain),
        key=key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password),
        algorithm=_algorithm(key, path),
    )


def _algorithm(key: Any, path: Path) -> str:
    """C2PA's name of the signature that a key makes; UsageError for a kind that C2PA does not allow."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _SIGNATURES:
        return _SIGNATURES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    raise UsageError(f"{VARIABLE}={path}: C2PA knows no signature with this kind of key; use P-256, Ed25519 or RSA")


def make_certificate(path: Path, name: str) -> None:
    """Write a self-made certificate for `name`, its root and its key as a PEM file that only its owner can read.

    Nobody vouches for it: it shows that files come from whoever has the key. UsageError if there is a file.
    """
    require_package()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid

    if not name.strip() or not name.isprintable() or len(name) > 64:  # the limit of X.509 (RFC 5280, ub-common-name)
        raise UsageError("--name: expected 1 to 64 letters, such as the name of a studio")
    now = datetime.datetime.now(datetime.UTC)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def subject(common_name: str) -> x509.Name:
        organisation = x509.NameAttribute(oid.NameOID.ORGANIZATION_NAME, name)
        return x509.Name([organisation, x509.NameAttribute(oid.NameOID.COMMON_NAME, common_name)])

    def certificate(common_name: str, own: Any, usage: str, is_root: bool) -> x509.Certificate:
        usages = dict.fromkeys(_KEY_USAGES, False) | dict.fromkeys(usage.split(), True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(own)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        built = (
            x509.CertificateBuilder(subject("root"), subject(common_name), own)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=365 * YEARS_VALID))
            .add_extension(x509.BasicConstraints(is_root, None), critical=True)
            .add_extension(x509.KeyUsage(**usages), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(issuer, critical=False)
        )
        if not is_root:  # C2PA asks for a purpose; this is the general one (C2PA 2.2, section 14.5.1.1)
            purpose = x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            built = built.add_extension(purpose, critical=False)
        return built.sign(root_key, hashes.SHA256())

    parts = [
        certificate(name, key.public_key(), "digital_signature", False).public_bytes(serialization.Encoding.PEM),
        certificate("root", root_key.public_key(), "key_cert_sign crl_sign", True).public_bytes(
            serialization.Encoding.PEM
        ),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    ]
    with friendly_os_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{path}: is there already, and is not overwritten") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(parts))


def sign(path: Path, suffix: str, tags: Mapping[str, str], certificate: Certificate) -> None:
    """Put content credentials into a generated file in place; sound and tags stay as they are.

    `suffix` is its format (one of FORMATS). AudioError where the library refuses.
    """
    c2pa = require_package()
    algorithm = c2pa.C2paSigningAlg[certificate.algorithm]
    info = c2pa.C2paSignerInfo(algorithm, certificate.chain, certificate.key, None)
    signed = path.with_name(temporary_name(path))
    try:
        with (
            c2pa.Context.from_dict(_OFFLINE) as context,
            c2pa.Signer.from_info(info) as signer,
            path.open("rb") as source,
            signed.open("w+b") as target,
        ):
            c2pa.Builder(_manifest(tags), context).sign(signer, FORMATS[suffix], source, target)
        signed.replace(path)
    except c2pa.C2paError as error:
        raise AudioError(f"{path}: content credentials cannot be written: {error}") from error
    finally:
        signed.unlink(missing_ok=True)


def _manifest(tags: Mapping[str, str]) -> dict[str, Any]:
    """What is signed: made by a model, or after so many given seconds; by which program, base, adapter and seed."""
    given = given_seconds(tags)
    made = generated_by(tags)
    action = {
        "action": "c2pa.created",
        "digitalSourceType": COMPOSITE if given else GENERATED,
        "description": f"{made}; the first {given:g} s were given" if given else made,
        "softwareAgent": {"name": "talim", "version": __version__},
    }
    return {
        "claim_generator_info": [{"name": "talim", "version": __version__}],
        "title": tags.get("title", ""),
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def read(path: Path) -> Credentials | None:
    """A file's content credentials; None where there are none, or in a format that cannot hold any.

    Nothing is fetched. AudioError where what is there cannot be read.
    """
    c2pa = require_package()
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        return None
    try:
        with c2pa.Context.from_dict(_OFFLINE) as context, path.open("rb") as file:
            reader = c2pa.Reader.try_create(format_, file, context=context)
            if reader is None:
                return None
            with reader:
                state, stored = str(reader.get_validation_state()), json.loads(reader.json())
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}") from error
    except c2pa.C2paError as error:
        raise AudioError(f"{path}: its content credentials cannot be read: {error}") from error
    manifest = stored["manifests"][stored["active_manifest"]]
    codes = [row["code"] for row in stored.get("validation_status", [])]
    signature = manifest.get("signature_info") or {}
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    software = (manifest.get("claim_generator_info") or [{}])[0]
    return Credentials(
        intact=state in ("Valid", "Trusted"),
        problems=tuple(code for code in codes if code != _UNTRUSTED),
        trusted=state == "Trusted",
        signer=signature.get("common_name") or signature.get("issuer") or "",
        signed_at=signature.get("time") or "",
        software=f"{software.get('name', '')} {software.get('version', '')}".strip(),
        generated=any(str(action.get("digitalSourceType", "")) in (GENERATED, COMPOSITE) for action in actions),
        description=next((str(action["description"]) for action in actions if action.get("description")), ""),
    )
