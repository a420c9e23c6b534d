"""systemd units of the three services: locked down, limited, watched; as text, not installed here.

The files in `ops/systemd` are what this gives for a program in /opt/montemq.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from protocol.errors import HostRefusedError


class Service(StrEnum):
    """What can be installed."""

    AGGREGATOR = "aggregator"
    CONSUMER = "consumer"
    PRODUCER = "producer"


SUMMARIES = {
    Service.AGGREGATOR: "Combines partial results of montemq",
    Service.CONSUMER: "Simulates for montemq while this machine is idle",
    Service.PRODUCER: "Schedules runs of montemq that nobody else schedules",
}

RESOURCES = {
    Service.AGGREGATOR: ("MemoryMax=2G", "TasksMax=64"),
    # Other services go first, and the machine keeps memory for them.
    Service.CONSUMER: (
        *("CPUWeight=idle", "IOWeight=1", "Nice=19", "IOSchedulingClass=idle"),
        *("MemoryHigh=70%", "MemoryMax=80%", "TasksMax=1024", "OOMScoreAdjust=900"),
        # Of a host that is refused nothing is taken, until somebody has looked at it.
        f"RestartPreventExitStatus={HostRefusedError.exit_code}",
    ),
    Service.PRODUCER: ("MemoryMax=2G", "TasksMax=64"),
}

UNPRIVILEGED = (
    *("NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes"),
    *("RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "SystemCallArchitectures=native"),
    *("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "UMask=0077"),
    *("SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM"),
)
"""What a user's own manager can do as well. No MemoryDenyWriteExecute: kernels are compiled."""

SANDBOX = (
    *("DynamicUser=yes", "ProtectSystem=strict", "PrivateTmp=yes", "PrivateDevices=yes"),
    *("PrivateUsers=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes"),
    *("ProtectKernelLogs=yes", "ProtectControlGroups=yes", "ProtectClock=yes"),
    *("ProtectHostname=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "RemoveIPC=yes"),
    *("DevicePolicy=closed", "SystemCallFilter=~@privileged"),
)


@dataclass(frozen=True)
class Unit:
    """One service of one machine.

    Attributes
    ----------
    service
        Which one.
    program
        The command `montemq`.
    folder
        Of its configuration: `SERVICE.env` and the files.
    files
        The paths of its secrets and certificates by option, `password` for --password-file.
    arguments
        Further ones of its command.
    user
        Whether it is for a user's own manager.
    """

    service: Service
    program: Path
    folder: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    user: bool = False

    @property
    def name(self) -> str:
        """The unit's file name."""
        return f"montemq-{self.service}.service"

    @property
    def text(self) -> str:
        """The unit's file."""
        lines = [
            "[Unit]",
            f"Description={SUMMARIES[self.service]}",
            *([] if self.user else ["Wants=network-online.target", "After=network-online.target"]),
            "",
            "[Service]",
            "Type=notify",
            f"EnvironmentFile={_escaped(str(self.folder / f'{self.service}.env'))}",
            *self._credentials(),
            f"ExecStart={' '.join(self._command())}",
            "# It may wait for its broker as long as it takes, and finish its chunks at the end.",
            *("TimeoutStartSec=infinity", "TimeoutStopSec=90", "KillMode=mixed"),
            *("WatchdogSec=60", "Restart=always", "RestartSec=15"),
            *self._directories(),
            *RESOURCES[self.service],
            *UNPRIVILEGED,
            *([] if self.user else (*SANDBOX, f"ProtectHome={self._home()}")),
            "",
            "[Install]",
            f"WantedBy={'default' if self.user else 'multi-user'}.target",
        ]
        return "\n".join(lines) + "\n"

    def _credentials(self) -> list[str]:
        """Return how files that only root can read reach a user that exists while it runs."""
        if self.user:
            return []
        return [f"LoadCredential={name}:{_escaped(str(p))}" for name, p in self.files.items()]

    def _command(self) -> list[str]:
        words = [str(self.program), self.service.value]
        quoted = [_quoted(word) for word in words]
        for name, path in self.files.items():
            place = _quoted(str(path)) if self.user else f"${{CREDENTIALS_DIRECTORY}}/{name}"
            quoted += [f"--{name}-file", place]
        if self.service is Service.AGGREGATOR:
            quoted += ["--store", "${STATE_DIRECTORY}/montemq.sqlite"]
        return [*quoted, *map(_quoted, self.arguments)]

    def _directories(self) -> list[str]:
        if self.service is Service.AGGREGATOR:
            return ["StateDirectory=montemq", "StateDirectoryMode=0700"]
        if self.service is Service.CONSUMER:
            # Compiled kernels: without them each start takes half a minute.
            return ["CacheDirectory=montemq", "Environment=MONTEMQ_CACHE_DIR=%C/montemq"]
        return []

    def _home(self) -> str:
        below = any(self.program.is_relative_to(home) for home in ("/home", "/root", "/run/user"))
        return "read-only" if below else "yes"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word of a command as systemd reads it back."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    plain = escaped and all(letter.isalnum() or letter in "%-_./:=,@+" for letter in escaped)
    return escaped if plain else f'"{escaped}"'
