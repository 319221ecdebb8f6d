"""Downloads: Python wheels through pip, Debian packages through apt-get.

A file gets its name in build/downloads only after its hash was checked, so
whatever lies there under a final name is whole and is the pinned one.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from .project import LINUX_ARM64
from .steps import SetupError, run, sha256


def keep_or_fetch(project, pin, fetch):
    """Puts a pinned file into build/downloads; fetch(pin, folder) gets it.

    A whole file from an earlier, interrupted run is kept.
    """
    path = project.downloads / pin["file"]
    if path.exists() and sha256(path) == pin["sha256"]:
        return [path]
    project.downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.downloads) as folder:
        fetch(pin, folder)
        got = Path(folder) / pin["file"]
        if not got.exists():
            names = ", ".join(os.listdir(folder)) or "nothing"
            raise SetupError(
                f"{pin['name']} {pin['version']}: expected the file {pin['file']}, got {names}",
                advice="correct file, version and sha256 in scripts/pins.ini",
            )
        found = sha256(got)
        if found != pin["sha256"]:
            raise SetupError(
                f"{pin['name']} {pin['version']}: {pin['file']} has the SHA-256\n  {found}, but scripts/pins.ini expects\n  {pin['sha256']}",
                advice="the file was removed; run again in case it was damaged on the way. If it "
                "happens again, the package was changed at its source: do not use it before you "
                "know why",
            )
        os.replace(got, path)
    return [path]


def download(project, pin):
    """Fetches a wheel or deb unless it is there; returns its path."""
    fetch = pip_download if pin["kind"] == "wheel" else AptDownload(project)

    def fetch_pinned():
        return keep_or_fetch(project, pin, fetch)

    title = f"fetching {pin['name']} {pin['version']}"
    project.steps.do(f"fetch-{pin['name']}", title, pin, fetch_pinned)
    return project.downloads / pin["file"]


def pip_download(pin, folder):
    """Has pip download one wheel, which installs and runs nothing."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", folder]
    if pin["platform"] != "any":
        command += ["--platform", pin["platform"]]
    package = pin["name"].partition(":")[0]
    run(
        [*command, f"{package}=={pin['version']}"],
        f"{pin['name']} {pin['version']}, from the Python package index, through pip",
        "check the network and pip's configuration (python3 -m pip config list), then run again: it continues where it stopped",
    )


class AptDownload:
    """Fetches Debian packages without root, with package lists of its own."""

    def __init__(self, project):
        self.state = project.build / "apt"
        self.architectures = ["amd64", "arm64"] if project.host == LINUX_ARM64 else []

    def __call__(self, pin, folder):
        what = f"{pin['name']} {pin['version']}, from the Debian archive, through apt-get"
        advice = (
            "check the network and /etc/apt, then run again. If the archive no longer has this "
            f"version (apt-cache policy {pin['name']} shows what it has), put the new version, "
            "file and sha256 into scripts/pins.ini"
        )
        try:
            self._fetch(pin, folder, what)
        except SetupError:
            # No package lists yet, or older ones than the pin.
            for part in ("lists/partial", "cache/archives/partial"):
                (self.state / part).mkdir(parents=True, exist_ok=True)
            run(self._apt(["update"]), what, advice, cwd=folder)
            self._fetch(pin, folder, what, advice)

    def _fetch(self, pin, folder, what, advice=""):
        if "pool" not in pin:
            run(self._apt(["download", f"{pin['name']}={pin['version']}"]), what, advice, cwd=folder)
            return
        # Of a newer Debian, whose packages the lists do not have: by its path in the archive.
        archives = run(self._apt(["indextargets", "--format", "$(REPO_URI)", "Codename: bookworm"]), what).split()
        if not archives:
            raise SetupError(f"{what}: apt knows no archive of bookworm", advice=advice)
        uri = f"{archives[0]}pool/{pin['pool']}/{pin['file']}"
        run(["/usr/lib/apt/apt-helper", "download-file", uri, pin["file"]], what, advice, cwd=folder)

    def _apt(self, words):
        options = {"Dir::State::Lists": self.state / "lists", "Dir::Cache": self.state / "cache", "APT::Sandbox::User": "root"}
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        for name in self.architectures:
            settings += ["-o", f"APT::Architectures::={name}"]
        return ["apt-get", "--quiet=2", *settings, *words]


def unpack_wheel(wheel, place):
    """Writes the members of a wheel to where place(name) says; None skips one.

    Returns the files written.
    """
    written = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = None if member.is_dir() else place(member.filename)
            if target is None:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            with archive.open(member) as source, open(temporary, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            mode = member.external_attr >> 16
            temporary.chmod(0o755 if mode & 0o111 else 0o644)
            os.replace(temporary, target)
            written.append(target)
    return written
