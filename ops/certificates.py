"""A private certificate authority for a broker, an aggregator and their clients, in one directory.

It only calls openssl, which every machine with a broker has: this script needs Python and nothing
else, so that keys can be made on a machine without montemq. See ops/rabbitmq/README.md.
"""

import argparse
import datetime as dt
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

AUTHORITY_DAYS = 3650
DAYS = 825
LIST_DAYS = 365
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,62}[A-Za-z0-9])?")

RESERVED = {"ca", "crl", "ca-and-crl"}

CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
dir = {folder}
database = $dir/private/index.txt
new_certs_dir = $dir/private
serial = $dir/private/serial
certificate = $dir/ca.pem
private_key = $dir/private/ca.key
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
"""


class CertificatesError(Exception):
    """What openssl refuses, or what is asked for wrongly; one sentence."""


class Use(Enum):
    """Which side of a connection a certificate is for."""

    SERVER = "serverAuth"
    CLIENT = "clientAuth"


@dataclass(frozen=True)
class Authority:
    """A directory with an authority: what others may see, and `private/` for its owner alone.

    Attributes
    ----------
    folder
        The directory.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        """The authority's certificate, for those who shall believe it."""
        return self.folder / "ca.pem"

    @property
    def revocations(self) -> Path:
        """The list of what was revoked."""
        return self.folder / "crl.pem"

    @property
    def bundle(self) -> Path:
        """Certificate and list in one file, for clients of montemq."""
        return self.folder / "ca-and-crl.pem"

    def create(self) -> None:
        """Make the authority; one that is there is kept.

        Raises
        ------
        CertificatesError
            openssl is not there, or does not.
        """
        if self.certificate.exists():
            return
        private = self.folder / "private"
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        (private / "index.txt").touch()
        (private / "serial").write_text("1000\n", encoding="ascii")
        _key(private / "ca.key")
        _openssl(
            *("req", "-x509", "-new", "-key", str(private / "ca.key"), "-sha256"),
            *("-days", str(AUTHORITY_DAYS), "-subj", "/CN=montemq authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-out", str(self.certificate)),
        )
        self._list()

    def issue(
        self,
        use: Use,
        name: str,
        *,
        others: Sequence[str] = (),
        days: int = DAYS,
        since: dt.datetime | None = None,
    ) -> Path:
        """Make NAME.pem and NAME.key and return the first; one that is there is kept.

        Parameters
        ----------
        use, name
            A server's name is its host name or address, a client's the broker's user.
        others
            Further host names and addresses of a server.
        days, since
            How long it is valid, and from when; from now on if None.

        Raises
        ------
        CertificatesError
            A name cannot stand in a certificate, or openssl refuses.
        """
        for one in (name, *others):
            if not (NAME.fullmatch(one) or _is_address(one)) or one in RESERVED:
                raise CertificatesError(f"{one!r} is no host name, address or user")
        self.create()
        certificate = self.folder / f"{name}.pem"
        if certificate.exists():
            return certificate
        key, request = self.folder / f"{name}.key", self.folder / "private" / f"{name}.csr"
        extensions = self.folder / "private" / f"{name}.ext"
        lines = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={use.value}"]
        if use is Use.SERVER:
            lines.append(f"subjectAltName={','.join(map(_alternative, (name, *others)))}")
        extensions.write_text("\n".join(lines) + "\n", encoding="ascii")
        _key(key)
        subject = ("-subj", f"/CN={name}")
        _openssl("req", "-new", "-key", str(key), *subject, "-out", str(request))
        begin = since or dt.datetime.now(dt.UTC)
        end = begin + dt.timedelta(days=days)
        self._ca(
            *("-batch", "-notext", "-in", str(request), "-out", str(certificate)),
            *("-extfile", str(extensions), "-startdate", _time(begin), "-enddate", _time(end)),
        )
        return certificate

    def revoke(self, name: str) -> None:
        """Put a certificate on the list of what was revoked, and remove it and its key here.

        Raises
        ------
        CertificatesError
            There is none of that name.
        """
        certificate = self.folder / f"{name}.pem"
        if not NAME.fullmatch(name) or not certificate.exists():
            raise CertificatesError(f"there is no certificate of {name!r} in {self.folder}")
        self._ca("-revoke", str(certificate))
        self._list()
        certificate.unlink()
        (self.folder / f"{name}.key").unlink(missing_ok=True)

    def renew(self) -> None:
        """Write the list of what was revoked anew, before it expires.

        Raises
        ------
        CertificatesError
            There is no authority.
        """
        if not self.certificate.exists():
            raise CertificatesError(f"there is no authority in {self.folder}")
        self._list()

    def _list(self) -> None:
        self._ca("-gencrl", "-crldays", str(LIST_DAYS), "-out", str(self.revocations))
        parts = (self.certificate, self.revocations)
        self.bundle.write_text("".join(part.read_text("ascii") for part in parts), "ascii")
        # RabbitMQ finds a list by the hash of who has issued it.
        hashed = _openssl("crl", "-noout", "-hash", "-in", str(self.revocations)).strip()
        (self.folder / "crl").mkdir(exist_ok=True)
        (self.folder / "crl" / f"{hashed}.r0").write_bytes(self.revocations.read_bytes())

    def _ca(self, *arguments: str) -> None:
        # Each time, because the directory may have been moved.
        settings = self.folder / "private" / "openssl.cnf"
        settings.write_text(CONFIGURATION.format(folder=self.folder.absolute()), encoding="utf-8")
        _openssl("ca", "-config", str(settings), *arguments)


def _key(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
    _openssl("genpkey", "-algorithm", "EC", *curve, "-out", str(path))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _alternative(name: str) -> str:
    return f"IP:{name}" if _is_address(name) else f"DNS:{name}"


def _time(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y%m%d%H%M%SZ")


def _openssl(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            ["openssl", *arguments],  # noqa: S607 - whichever is installed
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CertificatesError(
            "openssl is not installed: install it with `apt-get install openssl`"
        ) from None
    if done.returncode:
        raise CertificatesError(f"openssl {arguments[0]}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="certificates", description="Make certificates for montemq's brokers and clients."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made when it is not there")
    parser.add_argument("--days", type=int, default=DAYS, help="how long they are valid")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("server", help="for a broker or an aggregator's page")
    server.add_argument("name", help="host name or address")
    server.add_argument("others", nargs="*", help="further names and addresses of it")
    client = commands.add_parser("client", help="for a user of the broker")
    client.add_argument("name", help="the user, for instance consumer.spare-1")
    gone = commands.add_parser("revoke", help="take a certificate back")
    gone.add_argument("name")
    commands.add_parser("renew", help=f"the revocation list, for another {LIST_DAYS} days")
    given = parser.parse_args(arguments)
    authority = Authority(given.folder)
    try:
        if given.command in {"revoke", "renew"}:
            if given.command == "revoke":
                authority.revoke(given.name)
            else:
                authority.renew()
            print(f"give {authority.bundle} and crl/ to whoever checks")  # noqa: T201
        else:
            use = Use.SERVER if given.command == "server" else Use.CLIENT
            others = getattr(given, "others", ())
            made = authority.issue(use, given.name, others=others, days=given.days)
            print(f"{made} {made.with_suffix('.key')} {authority.certificate}")  # noqa: T201
    except (CertificatesError, OSError) as error:
        print(f"certificates: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
