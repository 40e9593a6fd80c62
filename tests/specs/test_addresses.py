"""Which addresses are public, and which URLs may name data."""

from __future__ import annotations

import hashlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.addresses import fault, is_public, packed_as, shown
from specs.digests import tree_digest

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1",
    "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.0.8", "192.0.2.1", "::1", "::",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1",
    "2001:db8::1", "100::1", "localhost", "", "1.2.3", "0x7f.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    """Loopback, private, link-local, carriers' and odd networks are not public, in whatever form IPv6 wraps them."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_public(address: str) -> None:
    """What the internet routes may be asked for data."""
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address is as public as each IPv6 address that leads to it."""
    number = int(address)
    wrapped = [f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | number))]
    assert {is_public(each) for each in wrapped} == {is_public(str(address))}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://me:secret@host/a.zip", "no user and no password"), ("https://token@host/a.zip", "no user"),
        ("ftp://host/a.zip", "begins with ftp://"), ("https:///a.zip", "names no host"),
        ("https://host:99999/a.zip", "is no URL"), ("https://[::1/a.zip", "is no URL"), ("file://host/a", "file:///"),
        ("file:///a/../etc", "file:///"), ("file:///a/%2e%2e/etc", "file:///"), ("s3://A_B/x", "names no bucket"),
        ("s3://bucket/x?endpoint=evil", "no ?"), ("s3:///x", "names no bucket"), ("gs://b/../c", "no .."),
    ],
)  # fmt: skip
def test_urls_that_cannot_name_data_are_refused(url: str, said: str) -> None:
    """A URL with credentials, of an unknown kind, or that leads outside is refused, and no secret is quoted."""
    assert said in fault(url)
    assert "secret" not in fault(url)


@pytest.mark.parametrize(
    "url", ["https://host/a.zip?sig=1", "s3://bucket", "s3://bucket/a/b", "gs://b/a.tar", "file:///a/b", "store://digits"]
)
def test_urls_that_name_data_are_taken(url: str) -> None:
    """What the documentation lists is accepted."""
    assert fault(url) == ""


def test_urls_are_shown_without_secrets() -> None:
    """User, password, query and fragment are never printed; a signed URL keeps only its place."""
    assert shown("https://me:secret@host:8080/a.zip?X-Amz-Signature=secret#secret") == "https://host:8080/a.zip"


@pytest.mark.parametrize(
    ("url", "kind"),
    [("https://h/A.ZIP?x=.tar", "zip"), ("s3://b/a.tar.gz", "gz"), ("file:///a.tar.zst", "zst"), ("s3://b/zip", None)],
)
def test_the_path_of_a_url_says_how_it_is_packed(url: str, kind: str | None) -> None:
    """The ending of the path counts, in any case, and nothing behind it."""
    assert packed_as(url) == kind


def test_a_tree_has_the_digest_that_the_manual_computes() -> None:
    """The digest of a folder is that of a JSON text that anybody can write, whatever order the files come in."""
    files = [("labels/ä.txt", 3, "b" * 64), ("images/a.png", 10, "a" * 64)]
    text = f'[["images/a.png",10,"{"a" * 64}"],["labels/ä.txt",3,"{"b" * 64}"]]'
    assert tree_digest(files) == tree_digest(reversed(files)) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
