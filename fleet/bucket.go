package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"
)

// bucket is a store in a bucket of S3, of a server with its API, or of Google Cloud
// Storage, which has that API too.
type bucket struct {
	client *minio.Client
	name   string
	prefix string // of the names of all objects, with a slash at the end
}

// An operation of a bucket that does not answer ends after about a minute: a worker that
// waits for longer keeps a part that others could score.
const (
	bucketTries   = 5
	bucketDial    = 5 * time.Second
	bucketHeader  = 30 * time.Second
	bucketTimeout = time.Minute
)

// openBucket returns the store of a job in a bucket. Credentials come from the
// environment, the AWS configuration files or the machine's role. AWS_ENDPOINT_URL_S3 or
// AWS_ENDPOINT_URL names another server.
func openBucket(address *url.URL, job string) (store, error) {
	endpoint, secure, err := endpointOf(address.Scheme)
	if err != nil {
		return nil, err
	}
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", address, err)
	}
	transport.DialContext = (&net.Dialer{Timeout: bucketDial, KeepAlive: 30 * time.Second}).DialContext
	transport.TLSHandshakeTimeout, transport.ResponseHeaderTimeout = bucketDial, bucketHeader
	keys, err := credentialsFor(address)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(endpoint, &minio.Options{
		Secure: secure, Region: firstEnv("AWS_REGION", "AWS_DEFAULT_REGION"), Creds: keys,
		Transport: transport, MaxRetries: bucketTries,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", address, err)
	}
	return bucket{client, address.Host, prefixOf(address, job)}, nil
}

// prefixOf returns the prefix of a job's objects.
func prefixOf(address *url.URL, job string) string {
	return path.Join(strings.Trim(address.Path, "/"), "mlxrank-"+job) + "/"
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
		return "", false, fmt.Errorf("AWS_ENDPOINT_URL %q is not an address; expected https://HOST", redact(set))
	}
	return address.Host, address.Scheme == "https", nil
}

// metadataTimeout bounds the search for the machine's role: the address of the service
// that knows it leads nowhere on most machines.
const metadataTimeout = 2 * time.Second

// credentialsFor finds the keys for a bucket. Without any the client would send requests
// that are not signed, which fail with an error that does not say why.
func credentialsFor(address *url.URL) (*credentials.Credentials, error) {
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	where := "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile of ~/.aws/credentials"
	if address.Scheme == "gs" {
		where = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to an HMAC key of Google Cloud Storage"
	} else if os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		providers = append(providers, roleOfMachine())
	}
	keys := credentials.NewChainCredentials(providers)
	value, err := keys.GetWithContext(&credentials.CredContext{Client: &http.Client{Timeout: metadataTimeout}})
	if err != nil {
		return nil, fmt.Errorf("store %s: find the credentials: %w", address, err)
	}
	if value.SignerType == credentials.SignatureAnonymous {
		return nil, fmt.Errorf("store %s: this machine has no credentials for it; %s", address, where)
	}
	return keys, nil
}

// roleOfMachine asks the metadata service of a machine or container for the keys of its
// role.
func roleOfMachine() *credentials.IAM {
	role := &credentials.IAM{Client: &http.Client{Timeout: metadataTimeout}}
	// The field would also replace the services of web identities and of containers.
	if firstEnv("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI") == "" {
		role.Endpoint = os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")
	}
	return role
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
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
	return b.explain(name, err)
}

func (b bucket) get(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	object, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(name, err)
	}
	defer object.Close() //nolint:errcheck // its end was read
	data, err := io.ReadAll(object)
	return data, b.explain(name, err)
}

func (b bucket) has(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	_, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	if err = b.explain(name, err); errors.Is(err, errMissing) {
		return false, nil
	}
	return err == nil, err
}

func (b bucket) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	return b.explain(name, b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}))
}

// clear removes the objects one by one, several at a time: not every server removes many
// by one request.
func (b bucket) clear(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	var listErr error
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
		if listErr = object.Err; listErr != nil {
			break
		}
		group.Go(func() error { return b.remove(ctx, strings.TrimPrefix(object.Key, b.prefix)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.explain("", listErr)
}

// explain names the bucket and the server in an error, and what to do.
func (b bucket) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("bucket %s at %s", b.name, b.client.EndpointURL().Host)
	answer := minio.ToErrorResponse(err)
	switch answer.Code {
	case minio.NoSuchKey:
		return fmt.Errorf("%s: %s: %w", where, b.prefix+name, errMissing)
	case minio.NoSuchBucket:
		return fmt.Errorf("%s does not exist; create it, or check the address and AWS_ENDPOINT_URL", where)
	}
	// A server may not know the key of a user who does not exist.
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden || strings.Contains(answer.Code, "UserNotFound") || strings.EqualFold(answer.Code, "InvalidAccessKeyId") {
		return fmt.Errorf("%s rejects the credentials: %w; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may read, write, list and delete under %s", where, err, b.prefix)
	}
	var network *url.Error
	if errors.As(err, &network) {
		return fmt.Errorf("%s %w: %w; check the network and AWS_ENDPOINT_URL", where, errAway, network.Err)
	}
	if answer.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s %w: %w", where, errAway, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}
