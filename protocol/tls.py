"""TLS: whose certificates are believed, our own, and what went wrong in one sentence.

A certificate is always verified, and its host name too; there is no option that turns it off.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import UsageError

CA_FILE_VARIABLE = "MONTEMQ_CA_FILE"
CERT_FILE_VARIABLE = "MONTEMQ_CERT_FILE"
KEY_FILE_VARIABLE = "MONTEMQ_KEY_FILE"

REFUSAL_SECONDS = 1.0

_LIST = "-----BEGIN X509 CRL-----"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Attributes
    ----------
    ca
        Authorities to believe instead of the system's; with revocation lists in it, these are
        checked.
    cert, key
        Our own certificate and its key, for a peer that asks for it.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise UsageError("the key file needs the certificate file that belongs to it")

    def to_a_server(self) -> ssl.SSLContext:
        """Return the context of a client.

        Raises
        ------
        UsageError
            A file cannot be used.
        """
        if self.ca is None:
            context = ssl.create_default_context()
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, host names included
            _believe(context, self.ca)
        self._present(context)
        return context

    def for_clients(self) -> ssl.SSLContext:
        """Return the context of a server; with `ca`, its clients need a certificate from there.

        Raises
        ------
        UsageError
            A file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ca is not None:
            _believe(context, self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        self._present(context)
        return context

    def _present(self, context: ssl.SSLContext) -> None:
        if self.cert is None:
            return
        try:
            # Never a prompt: a key with a passphrase would have a service wait for ever.
            context.load_cert_chain(self.cert, self.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = f"{self.cert} and {self.key}" if self.key else self.cert
            raise UsageError(
                f"the certificate and key in {files} cannot be used: {_reason(error)}"
            ) from None


def refusal(host: str, port: int, files: TlsFiles) -> ssl.SSLError | None:
    """Ask a server once more, saying nothing, why it ends connections; None if it does not say.

    It blocks for at most about a second.
    """
    try:
        with (
            socket.create_connection((host, port), REFUSAL_SECONDS) as plain,
            files.to_a_server().wrap_socket(plain, server_hostname=host) as secure,
        ):
            secure.recv(1)
    except ssl.SSLError as error:
        return error
    except OSError:
        return None
    return None


def why(error: ssl.SSLError) -> str:
    """Return what is wrong between two peers, a clause that goes behind a colon."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERDICTS.get(error.verify_code)
        return known or f"its certificate is not valid: {error.verify_message}"
    reason = error.reason or ""
    if reason in _ALERTS:
        return f"it refuses our certificate, {_ALERTS[reason]}"
    if reason in _FOREIGN or isinstance(error, ssl.SSLEOFError):
        return "whoever answers there does not speak TLS, or closes the connection at once"
    return f"no TLS connection can be made: {reason.replace('_', ' ').lower() or error}"


def _believe(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
        if _LIST in Path(ca).read_text(encoding="utf-8"):
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ValueError) as error:
        raise UsageError(f"the CA file {ca} cannot be used: {_reason(error)}") from None


def _no_passphrase() -> str:
    raise ValueError("it has a passphrase, which nobody could enter")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


_UNKNOWN = "no authority that is trusted here has signed its certificate; --ca-file names others"
_OTHER_HOST = "its certificate is for another host name"

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_VERDICTS = {
    3: "the CA file has no revocation list of its certificate's authority",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    12: "the revocation list in the CA file has expired",
    18: _UNKNOWN,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    23: "its certificate was revoked",
    62: _OTHER_HOST,
    64: _OTHER_HOST,
}

_ALERTS = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "which has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "which was revoked",
    "TLSV1_ALERT_UNKNOWN_CA": "which is from an authority that it does not know",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "which it does not accept",
    "SSLV3_ALERT_BAD_CERTIFICATE": "which it does not accept",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "which is missing; give --cert-file and --key-file",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "or we offer none; give --cert-file and --key-file",
}

_FOREIGN = {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"}
