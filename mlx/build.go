package mlx

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// BuildEnv names the environment variable that forces a build of MLX on macOS.
const BuildEnv = "MLXRANK_MLX_BUILD"

// A Build is one of the two builds of MLX for macOS. They are of one version.
type Build string

// Builds. Newer needs macOS 26.2 and has kernels for the matrix units of M5's GPU,
// which MLX calls NAX. It is in a folder of its name next to the other.
const (
	Older Build = "macos14"
	Newer Build = "macos26"
)

// A machine holds the facts that decide which build is loaded.
type machine struct {
	Chip   string `json:"chip"`   // "Apple M5 Max"; "" where it is not known
	Darwin string `json:"darwin"` // release of the kernel: "25.2.0" is macOS 26.2
}

// macOS returns the version of macOS: the kernel's is not changed for programs that
// were built for an older one. It returns 0 and 0 where it is not known.
func (m machine) macOS() (major, minor int) {
	parts := strings.Split(m.Darwin, ".")
	if len(parts) < 2 {
		return 0, 0
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil || major < 25 {
		return 0, 0 // before macOS 26, whose kernel is 25
	}
	minor, err = strconv.Atoi(parts[1])
	if err != nil {
		return 0, 0
	}
	return major + 1, minor
}

// hasNAX reports whether macOS has what the kernels for the matrix units need. Below
// 26.2 MLX enables them by mistake.
func (m machine) hasNAX() bool {
	major, minor := m.macOS()
	return major > 26 || major == 26 && minor >= 2
}

var chips = regexp.MustCompile(`^Apple M(\d+)\b`)

// generation returns the GPU generation of a Mac's chip, 0 if it is not known. That
// of M1 is 13.
func (m machine) generation() int {
	found := chips.FindStringSubmatch(m.Chip)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return 0
	}
	return n + 12
}

const naxGeneration = 17 // M5

// chooseBuild returns the build to load and the reason. newer reports whether its
// files are there, and refused why it was found wrong on this machine.
func chooseBuild(m machine, forced string, newer bool, refused string) (build Build, why string, err error) {
	switch Build(forced) {
	case "":
	case Older:
		return Older, BuildEnv + " forces it", nil
	case Newer:
		if !newer {
			return "", "", fmt.Errorf("%s is %s, but the library's folder has no folder %s; unset it", BuildEnv, forced, Newer)
		}
		if !m.hasNAX() {
			return "", "", fmt.Errorf("%s is %s, which needs macOS 26.2; unset it", BuildEnv, forced)
		}
		return Newer, BuildEnv + " forces it", nil
	default:
		return "", "", fmt.Errorf("%s is %q; expected %s or %s", BuildEnv, forced, Older, Newer)
	}
	switch {
	case m.generation() < naxGeneration:
		return Older, "the chip has no matrix units for the newer build", nil
	case !m.hasNAX():
		return Older, "the newer build needs macOS 26.2", nil
	case !newer:
		return Older, fmt.Sprintf("there is no newer build in a folder %s", Newer), nil
	case refused != "":
		return Older, fmt.Sprintf("the newer build was found wrong on this machine: %s; %s=%s tries it again", refused, BuildEnv, Newer), nil
	}
	return Newer, "the chip has matrix units", nil
}

// newerFile returns where the newer build of a library has its copy of libmlxrank.
// The copy finds the libmlx of its own folder.
func newerFile(file string) string {
	return filepath.Join(filepath.Dir(file), string(Newer), filepath.Base(file))
}

// buildOf returns the build that a libmlxrank uses. Only the newer one has libjaccl.
func buildOf(file, system string) Build {
	if system != "darwin" {
		return ""
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "libjaccl.dylib")); err == nil {
		return Newer
	}
	return Older
}

var architectures = regexp.MustCompile(`^applegpu_g(\d+)(p?)`)

// usesNAX reports whether MLX computes with the kernels for the matrix units: the
// rule of its build for macOS 26.2. architecture is the GPU's.
func usesNAX(b Build, m machine, architecture string) bool {
	found := architectures.FindStringSubmatch(architecture)
	if b != Newer || !m.hasNAX() || found == nil {
		return false
	}
	least := naxGeneration
	if found[2] == "p" { // a phone's
		least++
	}
	generation, err := strconv.Atoi(found[1])
	return err == nil && generation >= least
}

// A refusal is the file that keeps why the newer build is not used. It counts for
// the same files on the same machine.
type refusal struct {
	machine
	File     string `json:"file"` // libmlxrank of the newer build
	Bytes    int64  `json:"bytes"`
	Modified int64  `json:"modified_ns"`
	Reason   string `json:"reason"`
}

func refusalPath() (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "mlxrank", "costs", "refused-build.json"), nil
}

// newRefusal describes the newer build of a file, without a reason.
func newRefusal(m machine, file string) (refusal, error) {
	status, err := os.Stat(file)
	if err != nil {
		return refusal{}, err
	}
	return refusal{machine: m, File: file, Bytes: status.Size(), Modified: status.ModTime().UnixNano()}, nil
}

// refused returns why the newer build in file is not used on this machine, "" if it
// may be.
func refused(m machine, file string) string {
	path, err := refusalPath()
	if err != nil {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var kept refusal
	if json.Unmarshal(data, &kept) != nil {
		return ""
	}
	now, err := newRefusal(m, file)
	if now.Reason = kept.Reason; err != nil || now != kept {
		return ""
	}
	return kept.Reason
}

// RefuseBuild keeps that the newer build of MLX computes wrong scores on this
// machine, so that programs load the older one from their next start on. It does
// nothing and returns false if another build is loaded, or there is no older one.
func (l *Library) RefuseBuild(reason string) (bool, error) {
	file := l.info.Path
	older := filepath.Join(filepath.Dir(filepath.Dir(file)), filepath.Base(file))
	if l.info.Build != Newer || filepath.Base(filepath.Dir(file)) != string(Newer) {
		return false, nil
	}
	if _, err := os.Stat(older); err != nil {
		return false, nil
	}
	return refuse(l.machine, file, reason)
}

func refuse(m machine, file, reason string) (bool, error) {
	path, err := refusalPath()
	if err != nil {
		return false, err
	}
	r, err := newRefusal(m, file)
	if err != nil {
		return false, err
	}
	r.Reason = reason
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, atomicfile.Write(path, append(data, '\n'), 0o600)
}
