package hub

import (
	"context"
	"crypto/md5"  // some mirrors use it as a name; here it protects against damage only
	"crypto/sha1" // git uses it as a name; here it protects against damage only
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

var (
	sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	sha1Pattern   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	md5Pattern    = regexp.MustCompile(`^[0-9a-f]{32}$`)
	// blobPattern matches valid file names: the ETag of a mirror may not be a hash.
	blobPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+=:-]{0,127}$`)
)

// cleanETag returns the ETag in a header, which may be quoted and marked as weak.
// It returns "" if the ETag is not a valid file name.
func cleanETag(header string) string {
	name := strings.Trim(strings.TrimPrefix(header, "W/"), `"`)
	if !blobPattern.MatchString(name) || strings.HasSuffix(name, incomplete) {
		return ""
	}
	return name
}

// isHash reports whether a name has the form of a supported hash.
func isHash(name string) bool {
	return sha256Pattern.MatchString(name) || sha1Pattern.MatchString(name) || md5Pattern.MatchString(name)
}

// A mismatch reports that the bytes of a blob do not match its hash or size.
type mismatch struct{ kind, want, got string }

func (m *mismatch) Error() string {
	return fmt.Sprintf("wrong %s %s, expected %s", m.kind, m.got, m.want)
}

// errNoHash reports that the name of a blob is not a hash of its bytes.
var errNoHash = errors.New("the name is not a supported hash of the bytes")

// A hashKind is a hash function that names blobs.
type hashKind string

const (
	sha256Kind hashKind = "SHA-256"
	gitKind    hashKind = "git blob id"
	sha1Kind   hashKind = "SHA-1"
	md5Kind    hashKind = "MD5"
)

// checkBlob compares the bytes of a file with the name of its blob. The hub uses
// the SHA-256 of a large file and the git blob id of a small one. Mirrors also
// use the SHA-1 or the MD5 of the bytes. checkBlob returns errNoHash for any other
// name, and for a name that looks like an MD5 and does not match, because object
// stores also have other names of that form.
func checkBlob(ctx context.Context, path, name string) error {
	var kinds []hashKind
	switch {
	case sha256Pattern.MatchString(name):
		kinds = []hashKind{sha256Kind}
	case sha1Pattern.MatchString(name):
		kinds = []hashKind{gitKind, sha1Kind}
	case md5Pattern.MatchString(name):
		kinds = []hashKind{md5Kind}
	default:
		return errNoHash
	}
	found, err := hashFile(ctx, path, kinds...)
	switch {
	case err != nil:
		return err
	case slices.Contains(found, name):
		return nil
	case kinds[0] == md5Kind:
		return errNoHash
	}
	return &mismatch{string(kinds[0]), name, found[0]}
}

// hashFile returns the hashes of a file in the order of kinds.
func hashFile(ctx context.Context, path string, kinds ...hashKind) (_ []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sums, to := make([]hash.Hash, len(kinds)), make([]io.Writer, len(kinds))
	for i, kind := range kinds {
		switch kind {
		case sha256Kind:
			sums[i] = sha256.New()
		case gitKind:
			sums[i] = sha1.New()
			if _, err := fmt.Fprintf(sums[i], "blob %d\x00", info.Size()); err != nil {
				return nil, err
			}
		case sha1Kind:
			sums[i] = sha1.New()
		case md5Kind:
			sums[i] = md5.New()
		}
		to[i] = sums[i]
	}
	source := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	})
	if _, err := io.CopyBuffer(io.MultiWriter(to...), source, make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	var names []string
	for _, sum := range sums {
		names = append(names, hex.EncodeToString(sum.Sum(nil)))
	}
	return names, nil
}
