"""Tools that are built from the pinned source of their Go modules, into build/tools."""

import json

from .steps import SetupError, run


def go_module(project, module):
    """Fetches a Go module; returns its Dir, Sum and Version."""
    command = ["go", "mod", "download", "-json", module]
    what = f"the Go module {module}, from the Go module proxy, through go"
    return json.loads(run(command, what, "check the network and go's configuration (go env GOPROXY), then run again", cwd=project.root))


def gotool(project, name):
    """Builds the tool that pins.ini names under [go:NAME] unless that is done; its path."""
    pin = project.pin("go", name)
    tool = project.build / "tools" / name

    def build_tool():
        module = go_module(project, f"{pin['module']}@{pin['version']}")
        if module["Sum"] != pin["sum"]:
            raise SetupError(
                f"{name} {pin['version']} has the sum {module['Sum']}, but scripts/pins.ini expects {pin['sum']}",
                advice="do not use it before you know why",
            )
        # Built inside its own module, so that its own go.sum holds. Go's caches
        # keep what it compiles, so an interrupted build goes on.
        run(
            ["go", "build", "-mod=readonly", "-trimpath", "-o", tool, pin["package"]],
            f"building {name} {pin['version']}",
            cwd=module["Dir"],
            env={"CGO_ENABLED": pin.get("cgo", "0"), "CGO_LDFLAGS": ""},
        )
        return [tool]

    project.steps.do(name, f"building {name} ({pin['takes']})", pin, build_tool)
    return tool
