"""golangci-lint, built from the pinned source of its module."""

import json
import subprocess

from .steps import SetupError, run


def lint(project):
    """Builds golangci-lint unless that is done, and runs it on the Go code."""
    pin = project.pin("go", "golangci-lint")
    tool = project.build / "tools" / "golangci-lint"

    def build_lint():
        module = json.loads(
            run(
                ["go", "mod", "download", "-json", f"{pin['module']}@{pin['version']}"],
                f"golangci-lint {pin['version']}, from the Go module proxy, through go",
                "check the network and go's configuration (go env GOPROXY), then run again",
                cwd=project.root,
            )
        )
        if module["Sum"] != pin["sum"]:
            raise SetupError(
                f"golangci-lint {pin['version']} has the sum {module['Sum']}, but "
                f"scripts/pins.ini expects {pin['sum']}",
                advice="do not use it before you know why",
            )
        # Built inside its own module, so that its own go.sum holds.
        run(
            ["go", "build", "-mod=readonly", "-trimpath", "-o", tool, "./cmd/golangci-lint"],
            f"building golangci-lint {pin['version']}",
            cwd=module["Dir"],
            env={"CGO_ENABLED": "0", "CGO_LDFLAGS": ""},
        )
        return [tool]

    title = "building golangci-lint (two minutes)"
    project.steps.do("golangci-lint", title, [pin, str(tool)], build_lint)
    for module in (project.root, project.root / "examples" / "rag"):
        if subprocess.run([tool, "run", "./..."], cwd=module, check=False).returncode != 0:
            raise SetupError("golangci-lint found the faults above", advice="mend them")
