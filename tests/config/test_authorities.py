"""Laws of authorities: a file is read once, and nothing but what it says is trusted."""

import hashlib
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme

from config.authorities import authorities_in


def write(file: Path, *authorities: trustme.CA, comment: str = "") -> None:
    """Write a bundle."""
    pem = comment.encode().join(each.cert_pem.bytes() for each in authorities)
    file.write_bytes(comment.encode() + pem)


def test_what_is_compared_is_what_is_trusted(tmp_path: Path) -> None:
    """Also when the file is replaced before the context is made."""
    file = tmp_path / "ca.pem"
    one, other = trustme.CA(), trustme.CA()
    write(file, one)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = authorities_in(str(file))
    write(file, other)
    assert found.digest == digest
    assert found.context().get_ca_certs(binary_form=True) == [
        ssl.PEM_cert_to_DER_cert(one.cert_pem.bytes().decode())
    ]


def test_plain_certificates_need_no_place_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose file system is read-only has none."""
    file = tmp_path / "ca.pem"
    write(file, trustme.CA())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert len(authorities_in(str(file)).context().get_ca_certs()) == 1


def test_a_bundle_may_say_whose_certificates_they_are(tmp_path: Path) -> None:
    """In any script, before and between them; the same one twice is no mistake."""
    file = tmp_path / "ca.pem"
    one, other = trustme.CA(), trustme.CA()
    write(file, one, other, one, comment="# F\u0151tan\u00fas\u00edtv\u00e1ny\n")
    assert len(authorities_in(str(file)).context().get_ca_certs()) == 2


def test_certificates_in_the_form_of_openssl_are_trusted_too(tmp_path: Path) -> None:
    """Systems have bundles of them, and none is passed over that stands beside plain ones."""
    file = tmp_path / "ca.pem"
    write(file, trustme.CA())
    own = file.read_bytes().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE")
    write(file, trustme.CA())
    file.write_bytes(file.read_bytes() + own)
    assert len(authorities_in(str(file)).context().get_ca_certs()) == 2


@pytest.mark.parametrize("said", ["", "\n", "nothing", "\u0151"])
def test_a_file_without_a_certificate_is_not_the_systems_trust(tmp_path: Path, said: str) -> None:
    """An error, instead of trusting everybody whom the system trusts."""
    file = tmp_path / "ca.pem"
    file.write_text(said, encoding="utf-8")
    with pytest.raises(ssl.SSLError):
        authorities_in(str(file)).context()


def test_the_systems_authorities_have_no_digest(tmp_path: Path) -> None:
    """They are whatever the system says; a file that is not there is an error."""
    found = authorities_in(None)
    assert found.digest == ""
    assert found.context().verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(FileNotFoundError):
        authorities_in(str(tmp_path / "none.pem"))
