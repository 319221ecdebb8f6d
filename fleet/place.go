package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// CheckPlace rejects the address of a folder or bucket that is not supported.
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
		return nil, fmt.Errorf("%s: %w", d.path(name), errMissing)
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

// bucket is a store in a bucket of S3, of a server with its API, or of Google Cloud
// Storage, which has that API too.
type bucket struct {
	client *minio.Client
	name   string
	prefix string
}

// openBucket returns the store of a job in a bucket. Credentials come from the
// environment, the AWS configuration files or the machine's role. AWS_ENDPOINT_URL_S3 or
// AWS_ENDPOINT_URL names another server.
func openBucket(address *url.URL, job string) (store, error) {
	endpoint, secure, err := endpointOf(address.Scheme)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(endpoint, &minio.Options{
		Secure: secure, Region: firstEnv("AWS_REGION", "AWS_DEFAULT_REGION"),
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", address, err)
	}
	prefix := strings.Trim(address.Path, "/")
	return bucket{client, address.Host, path.Join(prefix, "mlxrank-"+job) + "/"}, nil
}

// endpointOf returns the host of the S3 API for a scheme, and whether to use TLS.
func endpointOf(scheme string) (host string, secure bool, err error) {
	set := firstEnv("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	switch {
	case set == "" && scheme == "gs":
		return "storage.googleapis.com", true, nil
	case set == "":
		return "s3.amazonaws.com", true, nil
	}
	address, err := url.Parse(set)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return "", false, fmt.Errorf("AWS_ENDPOINT_URL %q is not an address; expected https://HOST", set)
	}
	return address.Host, address.Scheme == "https", nil
}

func firstEnv(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

func (b bucket) put(ctx context.Context, name string, data []byte) error {
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
	return b.explain(err)
}

func (b bucket) get(ctx context.Context, name string) ([]byte, error) {
	object, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(err)
	}
	data, err := io.ReadAll(object)
	if err := errors.Join(err, object.Close()); err != nil {
		return nil, b.explain(err)
	}
	return data, nil
}

func (b bucket) has(ctx context.Context, name string) (bool, error) {
	_, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	if err = b.explain(err); errors.Is(err, errMissing) {
		return false, nil
	}
	return err == nil, err
}

func (b bucket) remove(ctx context.Context, name string) error {
	return b.explain(b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}))
}

func (b bucket) clear(ctx context.Context) error {
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
		if object.Err != nil {
			return b.explain(object.Err)
		}
		if err := b.client.RemoveObject(ctx, b.name, object.Key, minio.RemoveObjectOptions{}); err != nil {
			return b.explain(err)
		}
	}
	return nil
}

// explain names the bucket in an error.
func (b bucket) explain(err error) error {
	if err == nil {
		return nil
	}
	switch minio.ToErrorResponse(err).Code {
	case "NoSuchKey":
		return fmt.Errorf("%s: %w", b.prefix, errMissing)
	case "NoSuchBucket":
		return fmt.Errorf("bucket %s does not exist at %s; create it, or check the address", b.name, b.client.EndpointURL().Host)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Errorf("bucket %s at %s: %w; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", b.name, b.client.EndpointURL().Host, err)
	}
	return fmt.Errorf("bucket %s at %s: %w", b.name, b.client.EndpointURL().Host, err)
}
