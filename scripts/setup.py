#!/usr/bin/env python3
"""Fetches and builds what mlxrank is built from, into build/.

    python3 scripts/setup.py                everything that go build needs
    python3 scripts/setup.py notices        build/THIRD_PARTY_NOTICES.txt, after go build
    python3 scripts/setup.py install        install under the environment's DESTDIR and PREFIX
    python3 scripts/setup.py uninstall      remove that again
    python3 scripts/setup.py check-install  rank from an installed tree
    python3 scripts/setup.py release        the release archive of the tag that is checked out
    python3 scripts/setup.py check-release  the same of any tree, as a trial
    python3 scripts/setup.py smoke          the C test of the native library, sanitized
    python3 scripts/setup.py faults         the native library that injects faults, for tests
    python3 scripts/setup.py emulator       the native library with emulated Metal kernels
    python3 scripts/setup.py measure        build/native/measure, which measures a device
    python3 scripts/setup.py capi           build/capi, the C API, after go build's needs
    python3 scripts/setup.py xcframeworks   build/xcframeworks, for Package.swift; macOS only
    python3 scripts/setup.py clang          clang and pkg-config, for the C API's tests
    python3 scripts/setup.py balancers      nginx and HAProxy, for the tests of scripts/service
    python3 scripts/setup.py s3             build/tools/versitygw, an S3 server, for the fleet's tests
    python3 scripts/setup.py lint           every linter
    python3 scripts/setup.py lint-changed   the linters, on what differs from the main branch
    python3 scripts/setup.py darwin         compile and link for macOS on arm64
    python3 scripts/setup.py swift          compile and test the Swift package
    python3 scripts/setup.py swift-package  read Package.swift with SwiftPM, where Swift is
    python3 scripts/setup.py arm64          build for Linux on arm64 and test it, emulated

Versions and hashes are in scripts/pins.ini. What is done is not done again,
and an interrupted run is continued by the next one.
"""

import argparse
import os
import sys
from pathlib import Path

from check import arm64, balancers, darwin, lint, swift, swift_package
from package import install, release, xcframework
from setup import capi, native, notices, parts, prerequisites
from setup.gotools import gotool
from setup.project import LINUX, MACOS, Project, host
from setup.steps import SetupError, only_one


def build(project):
    if project.host == LINUX:
        parts.mlx(project, skip=project.pins["blas"]["file"])
        parts.system_libraries(project)
    else:
        parts.mlx(project)
        parts.newer_mlx(project)
    parts.encoder(project)
    native.mlx_c(project)
    native.tokenizers(project)
    native.library(project)


def s3(project):
    gotool(project, "versitygw")


COMMANDS = {
    "build": build,
    "notices": notices.write,
    "install": install.install,
    "uninstall": install.uninstall,
    "check-install": install.check,
    "release": release.release,
    "check-release": release.check,
    "smoke": native.smoke,
    "faults": native.faults,
    "emulator": native.emulator,
    "measure": native.measure,
    "capi": capi.build,
    "xcframeworks": xcframework.build,
    "clang": darwin.clang,
    "balancers": balancers.fetch,
    "s3": s3,
    "lint": lint.lint,
    "lint-changed": lint.lint_changed,
    "darwin": darwin.check,
    "swift": swift.test,
    "swift-package": swift_package.check,
    "arm64": arm64.check,
}
# Commands that need no build tools, so that root, who may have none, can run them.
COPY_ONLY = {"install", "uninstall"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="build")
    command = parser.parse_args().command
    root = Path(os.path.abspath(__file__)).parent.parent
    try:
        project = Project(root, host())
        if project.host == MACOS:
            os.environ.setdefault("MACOSX_DEPLOYMENT_TARGET", "14.0")  # MLX's own
        if command not in COPY_ONLY:
            prerequisites.check(project)
        with only_one(project.build):
            COMMANDS[command](project)
    except SetupError as err:
        print(f"set-up failed: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
