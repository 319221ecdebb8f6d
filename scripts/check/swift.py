"""Checks capi/swift without a Swift compiler; CI's macOS job compiles and tests it.

clang reads the header as a module, the way Swift's importer does, and with every
warning it has; tree-sitter parses the sources. What the sources say about the C
API is compared by swift_contract, in a unit test. Each check is tried on
something wrong as well, which it must refuse.
"""

import os
import sys

from setup.fetch import download, unpack_wheel
from setup.project import LINUX
from setup.steps import SetupError, run, write_atomic

from . import darwin
from .swift_contract import Header

PACKAGE = "capi/swift"
GRAMMAR = ["tree-sitter", "tree-sitter-swift"]
GRAMMAR_PYTHON = (3, 11)
# Every warning of clang except the one about C pointers.
EVERYTHING = ["-Weverything", "-Wno-unsafe-buffer-usage"]


def check(project):
    """Part of make check-darwin."""
    if project.host != LINUX:
        command = ["swift", "build", "--package-path", project.root / PACKAGE, "--target", "MLXRank"]
        command += ["--scratch-path", project.build / "swift" / "package"]
        what, advice = "building the Swift package", "install Xcode 16 or newer, or its command line tools"
        project.steps.always("swift build", lambda: run(command, what, advice))
        return
    mac = darwin.cross(project)
    mac.steps.always("reading mlxr.h as a module", lambda: module(mac))
    mac.steps.always("reading mlxr.h with every warning", lambda: header(mac))
    site = grammar(project)
    project.steps.always("parsing the Swift sources", lambda: parse(project, site))


def module(mac):
    """Compiles a file that imports the module and names every function."""
    declared = Header((mac.root / "capi/mlxr.h").read_text(encoding="utf-8")).functions
    modules = mac.root / PACKAGE / "Sources/CMLXR/module.modulemap"
    flags = ["-x", "objective-c", "-Wall", "-Werror", "-fmodules", f"-fmodule-map-file={modules}"]
    flags += [f"-fmodules-cache-path={mac.build / 'modules'}"]

    def source(names):
        return "@import CMLXR;\nvoid use(void) {\n" + "".join(f"  (void)&{name};\n" for name in names) + "}\n"

    refuses("the module", lambda text: compile_c(mac, text, flags), source(declared), source(["mlxr_no_such"]))


def header(mac):
    """Compiles the header as C and as C++, with warnings that users may have on."""
    for language in ("c", "c++"):
        flags = ["-x", language, *EVERYTHING, "-Werror", f"-I{mac.root / 'capi'}"]
        right, wrong = '#include "mlxr.h"\n', '#include "mlxr.h"\nint32_t mlxr_undeclared(int64_t n) { return n; }\n'
        refuses("the header", lambda text, flags=flags: compile_c(mac, text, flags), right, wrong)


def compile_c(mac, text, flags):
    path = mac.build / "swift" / "use"
    write_atomic(path, text.encode())
    command = [mac.build / "bin/cc", *flags, "-c", path, "-o", path.with_suffix(".o")]
    run(command, f"compiling for {PACKAGE}", env=darwin.environment(mac))


def grammar(project):
    """build/swift/site: tree-sitter and its Swift grammar."""
    if sys.version_info[:2] != GRAMMAR_PYTHON:
        version = ".".join(map(str, GRAMMAR_PYTHON))
        raise SetupError(
            f"scripts/pins.ini has tree-sitter for Python {version}, this is {sys.version.split()[0]}",
            advice=f"run make with PYTHON=python{version}, Debian 12's own",
        )
    site = project.build / "swift" / "site"
    for name in GRAMMAR:
        pin = project.pin("wheel", name)
        wheel = download(project, pin)

        def unpack(wheel=wheel):
            return unpack_wheel(wheel, lambda member: site / member)

        project.steps.do(f"unpack-{name}", f"unpacking {name}", pin, unpack)
    return site


def parse(project, site):
    found = (project.root / PACKAGE).rglob("*.swift")
    sources = sorted(path for path in found if ".build" not in path.parts)
    if not sources:
        raise SetupError(f"there are no Swift files in {PACKAGE}")
    script = os.path.join(os.path.dirname(__file__), "swift_grammar.py")

    def check_files(paths):
        run([sys.executable, "-B", script, *paths], "parsing Swift", env={"PYTHONPATH": str(site)})

    cut = project.build / "swift" / "cut.swift"
    for source in sources:
        write_atomic(cut, source.read_bytes().rstrip()[:-1])  # without its last brace
        refuses(os.path.relpath(source), check_files, [source], [cut])


def refuses(what, action, right, wrong):
    """Checks that action succeeds on right and fails on wrong."""
    action(right)
    try:
        action(wrong)
    except SetupError:
        return
    raise SetupError(f"the check of {what} passes what is wrong: it checks nothing")
