package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// CheckPlace rejects the address of a folder or bucket that is not supported, a folder
// that is not there, and a bucket for which this machine has no credentials.
func CheckPlace(place string) error {
	_, err := openPlace(place, "check")
	return err
}

// openPlace returns the store of a job in a folder (file:///DIR) or a bucket
// (s3://BUCKET/PREFIX, gs://BUCKET/PREFIX).
func openPlace(place, job string) (store, error) {
	address, err := url.Parse(place)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", place, err)
	}
	switch address.Scheme {
	case "file":
		if address.Host != "" || !path.IsAbs(address.Path) {
			return nil, fmt.Errorf("store %q names no folder; expected file:///DIR with three slashes", place)
		}
		return openFolder(filepath.FromSlash(address.Path), job)
	case "s3", "gs":
		if address.Host == "" {
			return nil, fmt.Errorf("store %q names no bucket; expected %s://BUCKET/PREFIX", place, address.Scheme)
		}
		return openBucket(address, job)
	}
	return nil, fmt.Errorf("store %q is not supported; expected file:///DIR, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX", place)
}

// folder is a store in a folder that the submitter and all workers reach by the same
// path.
type folder struct{ dir string }

func openFolder(dir, job string) (store, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w; the folder must exist on the submitter and on every worker", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("store: %s is not a folder", dir)
	}
	return folder{filepath.Join(dir, "mlxrank-"+job)}, nil
}

func (d folder) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d folder) put(_ context.Context, name string, data []byte) error {
	file := d.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(file, data, 0o666)
}

func (d folder) get(_ context.Context, name string) ([]byte, error) {
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; the folder must be the same on the submitter and on every worker", d.path(name), errMissing)
	}
	return data, err
}

func (d folder) has(_ context.Context, name string) (bool, error) {
	_, err := os.Stat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d folder) remove(_ context.Context, name string) error {
	if err := os.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d folder) clear(context.Context) error { return os.RemoveAll(d.dir) }
