"""Content credentials: signed where a model made the sound, checked when read, refused where something is wrong."""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from talim.audio import Audio, AudioError, credentials, read, read_tags
from talim.errors import TalimError, UsageError

TAGS = {"ai_generated": "AI-generated", "software": "talim 9.9", "base": "nano-musicgen", "seed": "7", "title": "शाम"}
PEM, NO_PASSWORD = serialization.Encoding.PEM, serialization.NoEncryption()


def piece(tags: dict[str, str] = TAGS) -> Audio:
    samples = 0.2 * np.random.default_rng(0).standard_normal((1, 24000)).astype(np.float32)
    return Audio(samples, 24000, tags)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys" / "studio.pem"
    credentials.make_certificate(path, "Studio Ōsaka")
    monkeypatch.setenv(credentials.VARIABLE, str(path))
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_saved_piece_is_signed_and_keeps_sound_and_tags(tmp_path: Path, certificate: Path, suffix: str) -> None:
    signed, plain = tmp_path / f"signed{suffix}", tmp_path / f"plain{suffix}"
    piece().save(signed)
    os.environ.pop(credentials.VARIABLE)
    piece().save(plain)
    found = credentials.read(signed)
    assert found is not None
    assert (found.intact, found.trusted, found.problems) == (True, False, ())
    assert (found.signer, found.generated) == ("Studio Ōsaka", True)
    assert found.description == "talim 9.9, base nano-musicgen, seed 7"
    assert np.array_equal(read(signed).samples, read(plain).samples)
    assert read_tags(signed) == read_tags(plain) == TAGS
    assert credentials.read(plain) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", *sorted((plain.name, signed.name))]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_read_of_a_changed_file_says_so(tmp_path: Path, certificate: Path, suffix: str) -> None:
    path = tmp_path / f"piece{suffix}"
    piece().save(path)
    data = bytearray(path.read_bytes())
    place = len(data) - 2000 if suffix != ".wav" else 2000  # within the sound
    data[place] ^= 1
    path.write_bytes(data)
    found = credentials.read(path)
    assert found is not None
    assert not found.intact
    assert "assertion.dataHash.mismatch" in found.problems


def test_piece_that_begins_with_a_phrase_is_a_composite(tmp_path: Path, certificate: Path) -> None:
    import c2pa

    piece(TAGS | {"phrase_kept": "yes", "phrase_seconds": "4.5"}).save(tmp_path / "further.flac")
    found = credentials.read(tmp_path / "further.flac")
    assert found is not None
    assert found.generated
    assert found.description.endswith("the first 4.5 s were given")
    assert credentials.COMPOSITE in c2pa.Reader(tmp_path / "further.flac").json()


def test_sound_that_no_model_made_is_not_signed(tmp_path: Path, certificate: Path) -> None:
    piece({"title": "my own playing"}).save(tmp_path / "own.flac")
    assert credentials.read(tmp_path / "own.flac") is None


def test_format_that_holds_no_credentials_is_refused_and_nothing_is_written(tmp_path: Path, certificate: Path) -> None:
    with pytest.raises(AudioError, match=r"\.ogg cannot hold content credentials; use \.flac, \.wav or \.mp3"):
        piece().save(tmp_path / "piece.ogg")
    assert not (tmp_path / "piece.ogg").exists()
    piece({}).save(tmp_path / "own.ogg")


def test_made_certificate_is_the_owners_alone_and_is_not_overwritten(certificate: Path) -> None:
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o600
    before = certificate.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        credentials.make_certificate(certificate, "another")
    assert certificate.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a\nb", "  ", "x" * 65])
def test_make_certificate_without_a_proper_name_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters"):
        credentials.make_certificate(tmp_path / "c.pem", name)


def own_certificate(path: Path, key: object, days: tuple[int, int] = (-1, 30), listed: object = None) -> None:
    """A PEM file of a certificate for `key`, valid between two days from now, and of the key `listed`."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1)  # type: ignore[attr-defined]
    built = built.not_valid_before(now + datetime.timedelta(days=days[0]))
    built = built.not_valid_after(now + datetime.timedelta(days=days[1]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    own = built.sign(key, algorithm).public_bytes(PEM)  # type: ignore[arg-type]
    written = (listed or key).private_bytes(PEM, serialization.PrivateFormat.PKCS8, NO_PASSWORD)  # type: ignore[attr-defined]
    path.write_bytes(own + written)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "ED25519"),
        (rsa.generate_private_key(65537, 2048), "PS256"),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_load_certificate_takes_the_signature_of_the_key(tmp_path: Path, key: object, algorithm: str) -> None:
    own_certificate(tmp_path / "c.pem", key)
    assert credentials.load_certificate(tmp_path / "c.pem").algorithm == algorithm


def test_load_certificate_wrong_files_raise(tmp_path: Path, certificate: Path) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    path = tmp_path / "c.pem"
    with pytest.raises(UsageError, match="cannot be read"):
        credentials.load_certificate(tmp_path / "none.pem")
    for text in (b"", b"not PEM", certificate.read_bytes().split(b"-----BEGIN PRIVATE")[0]):
        path.write_bytes(text)
        with pytest.raises(UsageError, match="expected a PEM file"):
            credentials.load_certificate(path)
    own_certificate(path, key, listed=other)
    with pytest.raises(UsageError, match="not that of the first certificate"):
        credentials.load_certificate(path)
    own_certificate(path, key, days=(-20, -10))
    with pytest.raises(UsageError, match=r"valid from \S+ to \S+, not today"):
        credentials.load_certificate(path)
    own_certificate(path, dsa.generate_private_key(1024))
    with pytest.raises(UsageError, match="no signature with this kind of key"):
        credentials.load_certificate(path)


def test_certificate_that_the_library_refuses_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_certificate(tmp_path / "c.pem", ec.generate_private_key(ec.SECP256R1()))  # signed by itself, without a purpose
    monkeypatch.setenv(credentials.VARIABLE, str(tmp_path / "c.pem"))
    with pytest.raises(AudioError, match="content credentials cannot be written"):
        piece().save(tmp_path / "piece.flac")
    assert [path.name for path in tmp_path.iterdir()] == ["c.pem"]


def test_without_the_package_saving_says_how_to_install_it(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(TalimError, match=r"content credentials need c2pa.*pip install '\.\[credentials\]'"):
        piece().save(tmp_path / "piece.flac")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".m4a"])
def test_read_of_a_broken_file_is_none_or_an_audio_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    for data in (b"", b"RIFF", b"fLaC" + bytes(40), bytes(3000)):
        path.write_bytes(data)
        with contextlib.suppress(AudioError):
            assert credentials.read(path) is None
