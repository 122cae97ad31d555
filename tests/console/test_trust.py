"""Laws of whom the control trusts: the authorities of a provider's file as they are now, else the system's."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from config.providers import Provider
from console.trust import Trust


def provider(ca_file: Path | None) -> Provider:
    return Provider(
        protocol="openai",
        base_url="https://vendor.test/v1",
        ca_file=None if ca_file is None else str(ca_file),
    )


async def test_one_context_stands_for_all_who_are_trusted_alike(tmp_path: Path) -> None:
    """Also for those who ask at once; the system's authorities are not those of a file."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    trust = Trust()
    one = await trust.of(provider(file))
    assert await trust.of(provider(file)) is one
    others = await asyncio.gather(trust.of(provider(None)), trust.of(provider(None)))
    assert one not in others
    assert others[0].verify_mode.name == one.verify_mode.name == "CERT_REQUIRED"


async def test_an_authority_that_was_replaced_is_trusted_at_once(tmp_path: Path) -> None:
    """The file is what counts, not its name; one that is gone is an OSError."""
    file = tmp_path / "ca.pem"
    trust = Trust()
    known = []
    for _ in range(2):
        trustme.CA().cert_pem.write_to_path(str(file))
        (authority,) = (await trust.of(provider(file))).get_ca_certs()
        known.append(authority["serialNumber"])
    assert known[0] != known[1]
    file.unlink()
    with pytest.raises(OSError, match="No such file"):
        await trust.of(provider(file))


async def test_an_authority_that_is_replaced_meanwhile_is_not_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks when the file is as it was trusts whom it named."""
    file = tmp_path / "ca.pem"
    one, other = (trustme.CA().cert_pem.bytes() for _ in range(2))
    file.write_bytes(one)
    trust = Trust()
    read = Path.read_bytes

    def read_and_replaced(path: Path) -> bytes:
        found = read(path)
        path.write_bytes(other)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_and_replaced)
        await trust.of(provider(file))
    file.write_bytes(one)
    (trusted,) = (await trust.of(provider(file))).get_ca_certs(binary_form=True)
    assert trusted == ssl.PEM_cert_to_DER_cert(one.decode())
