"""TLS contexts and their sentences, against a real TLS server in this process."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.certificates import Authority, CertificatesError, Use, main
from protocol.errors import UsageError
from protocol.tls import TlsFiles, refusal


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("ca") / "ours")
    authority.issue(Use.SERVER, "localhost", others=["127.0.0.1", "::1"])
    authority.issue(Use.CLIENT, "me")
    return authority


def files(authority: Authority, name: str | None, ca: Path | None = None) -> TlsFiles:
    made = None if name is None else authority.folder / f"{name}.pem"
    pair = (str(made), str(made.with_suffix(".key"))) if made else (None, None)
    return TlsFiles(str(ca or authority.certificate), *pair)


@pytest.fixture(scope="module")
def port(ours: Authority) -> Iterator[int]:
    """Serve connections of clients with a certificate, and end them at once."""
    context = files(ours, "localhost").for_clients()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_server_that_takes_our_certificate_has_nothing_to_say(ours: Authority, port: int) -> None:
    for host in ("localhost", "127.0.0.1"):
        assert refusal(host, port, files(ours, "me")) is None


def test_a_server_says_that_a_certificate_is_missing(ours: Authority, port: int) -> None:
    found = refusal("localhost", port, files(ours, None))
    assert found is not None
    assert found.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_a_client_always_verifies_and_a_server_with_an_authority_does(ours: Authority) -> None:
    for made in (TlsFiles(), files(ours, "me")):
        context = made.to_a_server()
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert files(ours, "localhost").for_clients().verify_mode == ssl.CERT_REQUIRED
    listed = files(ours, "me", ours.bundle).to_a_server()
    assert listed.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def test_files_that_cannot_be_used_are_named(ours: Authority, tmp_path: Path) -> None:
    absent, empty = tmp_path / "absent.pem", tmp_path / "empty.pem"
    empty.touch()
    for ca in (absent, empty):
        with pytest.raises(UsageError, match=f"the CA file {ca} cannot be used"):
            TlsFiles(str(ca)).to_a_server()
    with pytest.raises(UsageError, match="the key file needs the certificate"):
        TlsFiles(key=str(absent))
    cert = str(ours.folder / "me.pem")
    with pytest.raises(UsageError, match="key values mismatch"):
        TlsFiles(None, cert, str(ours.folder / "localhost.key")).to_a_server()
    with pytest.raises(UsageError, match=f"in {cert} cannot be used"):
        TlsFiles(None, cert).to_a_server()


def test_certificates_are_kept_revoked_and_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    first = authority.issue(Use.CLIENT, "a").read_bytes()
    assert authority.issue(Use.CLIENT, "a").read_bytes() == first
    assert (tmp_path / "ca" / "a.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca" / "private").stat().st_mode & 0o777 == 0o700
    before = authority.bundle.read_bytes()
    moved = tmp_path / "moved"
    authority.folder.rename(moved)
    again = Authority(moved)
    again.revoke("a")
    assert again.bundle.read_bytes() != before
    assert again.issue(Use.CLIENT, "a").read_bytes() != first
    assert not (tmp_path / "ca").exists()


@pytest.mark.parametrize("name", ["", "../a", "a b", "a,DNS:b", "a\nb", "ca", "crl", "-a"])
def test_names_that_could_say_more_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CertificatesError, match="is no host name"):
        Authority(tmp_path).issue(Use.SERVER, name)


def test_the_script_prints_the_files_and_one_sentence_on_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ca"
    assert main([str(folder), "server", "broker.example", "10.0.0.7"]) == 0
    for path in capsys.readouterr().out.split():
        assert Path(path).exists()
    assert main([str(folder), "revoke", "nobody"]) == 2
    assert (
        capsys.readouterr().err
        == f"certificates: there is no certificate of 'nobody' in {folder}\n"
    )
    assert main([str(folder), "revoke", "broker.example"]) == 0
    before = (folder / "crl.pem").read_bytes()
    assert main([str(folder), "renew"]) == 0
    assert (folder / "crl.pem").read_bytes() != before
    assert main([str(tmp_path / "none"), "renew"]) == 2
