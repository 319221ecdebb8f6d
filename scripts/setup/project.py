"""Where things lie, what is pinned, and which platform this is."""

import configparser
import platform
from pathlib import Path

from .steps import SetupError, Steps

LINUX, MACOS = "linux-x86_64", "macos-arm64"
# Only emulated, by make check-arm64: no host of the set-up.
LINUX_ARM64 = "linux-arm64"
MLX_WHEELS = {LINUX: "mlx-cpu", MACOS: "mlx-metal", LINUX_ARM64: "mlx-cpu:arm64"}


class Project:
    """The repository, its build folder and its pins."""

    def __init__(self, root, host, build=None):
        self.root = root
        self.host = host
        self.build = build or root / "build"
        self.lib = self.build / "lib"
        self.downloads = self.build / "downloads"
        self.mlx = self.build / "mlx"
        self.mlx_c = self.build / "mlx-c"
        self.steps = Steps(self.build / "stamps")
        self.pins = load_pins(root / "scripts" / "pins.ini")

    @property
    def mlx_wheel(self):
        return MLX_WHEELS[self.host]

    def pin(self, kind, name):
        """The section of pins.ini for a wheel or a deb, as a dict.

        A name may end in :arm64, as the names of Debian's foreign packages do.
        """
        return {"name": name, "kind": kind, **self.pins[f"{kind}:{name}"]}

    def pinned(self, kind):
        """All sections of a kind, in the file's order."""
        names = [s.split(":", 1)[1] for s in self.pins.sections() if s.startswith(kind + ":")]
        return [self.pin(kind, name) for name in names]


def load_pins(path):
    pins = configparser.ConfigParser(interpolation=None)
    with open(path, encoding="utf-8") as file:
        pins.read_file(file)
    return pins


def host():
    """The platform that set-up runs on, refused by name when it is another."""
    system, machine = platform.system(), platform.machine()
    if system == "Darwin" and machine == "arm64":
        return MACOS
    found = f"{system} {platform.release()} on {machine}"
    if system == "Linux":
        release = os_release(Path("/etc/os-release"))
        if (release.get("ID"), release.get("VERSION_ID"), machine) == ("debian", "12", "x86_64"):
            return LINUX
        found = f"{release.get('PRETTY_NAME', 'an unknown Linux')} on {machine}"
    raise SetupError(
        f"this is {found}; the set-up supports Debian 12 on x86_64 and macOS 14 or newer on arm64",
        advice="build in a Debian 12 container, or on a Mac with Apple Silicon",
    )


def os_release(path):
    """The fields of an os-release file; none when there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, value in pairs}
