"""Fetches the load balancers that the tests of scripts/service run."""

import os

from setup import parts
from setup.gotools import gotool
from setup.project import LINUX

# HAProxy needs the libraries. What else both need, set-up's own tools need too.
DEBS = ["nginx", "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"]


def fetch(project):
    """Unpacks Debian's nginx and HAProxy; with MLXRANK_TEST_LONG it builds Caddy too."""
    if project.host != LINUX:
        project.steps.out.write("balancers: the tests of scripts/service run on Linux only\n")
        return
    for name in DEBS:
        parts.deb(project, name)
    if os.environ.get("MLXRANK_TEST_LONG"):
        gotool(project, "caddy")
