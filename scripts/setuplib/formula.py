"""The Homebrew formula of a release, from scripts/homebrew/mlxrank.rb."""

import re

from .steps import SetupError, write_atomic


def write(project, version, digest):
    """build/dist/mlxrank.rb: the formula of a version whose archive has this SHA-256."""
    text = (project.root / "scripts" / "homebrew" / "mlxrank.rb").read_text(encoding="utf-8")
    path = project.build / "dist" / "mlxrank.rb"
    write_atomic(path, filled(text, version, digest).encode())
    return path


def filled(text, version, digest):
    """The formula's text with its version and hash put in, and the note on them gone."""
    url = rf"/v{version}/mlxrank_{version}_darwin_arm64.tar.gz"
    changes = [
        (r'/v[^/"]+/mlxrank_[^/"]+_darwin_arm64\.tar\.gz', url),
        (r'(?<=sha256 ")0{64}', digest),
        (r"\A(#.*\n)+", ""),
    ]
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise SetupError(f"scripts/homebrew/mlxrank.rb has {pattern} {count} times, expected once")
    return text
