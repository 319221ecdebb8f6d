"""The Homebrew formula of a release, from scripts/package/homebrew/mlxrank.rb."""

import re

from setup.steps import SetupError, sha256, write_atomic

RELEASES = "https://github.com/mlxrank/mlxrank/releases/download"


def write(project, version, archive, trial=False):
    """build/dist/mlxrank.rb: the formula of this archive, at its place in the release.

    On trial the archive is taken from where it lies now.
    """
    text = (project.root / "scripts/package/homebrew" / "mlxrank.rb").read_text(encoding="utf-8")
    url = RELEASES + f"/v{version}/mlxrank_{version}_darwin_arm64.tar.gz"
    text = filled(text, archive.as_uri() if trial else url, sha256(archive), version if trial else None)
    path = project.build / "dist" / "mlxrank.rb"
    write_atomic(path, text.encode())
    return path


def filled(text, url, digest, version=None):
    """The formula's text with these put in, and the note on them gone.

    Homebrew reads the version out of the address, unless it is named.
    """
    named = f'\n  version "{version}"' if version else ""
    changes = [(r'^  url ".*"$', f'  url "{url}"{named}'), (r'^  sha256 "0{64}"$', f'  sha256 "{digest}"'), (r"\A(#.*\n)+", "")]
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if count != 1:
            raise SetupError(f"scripts/package/homebrew/mlxrank.rb has {pattern} {count} times, expected once")
    return text
