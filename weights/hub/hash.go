package hub

import (
	"context"
	"crypto/md5"  // mirrors name files by it; what it protects against here is damage
	"crypto/sha1" // git names blobs by it, with the same remark
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
	// blobPattern is what may name a file: a mirror's ETag need be no hash.
	blobPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+=:-]{0,127}$`)
)

// cleanETag returns the name of a blob out of an ETag header, which may be
// quoted and marked as weak; "" if it cannot be the name of a file.
func cleanETag(header string) string {
	name := strings.Trim(strings.TrimPrefix(header, "W/"), `"`)
	if !blobPattern.MatchString(name) || strings.HasSuffix(name, incomplete) {
		return ""
	}
	return name
}

// isHash reports whether a name has the length of a hash that is looked for.
func isHash(name string) bool {
	return sha256Pattern.MatchString(name) || sha1Pattern.MatchString(name) || md5Pattern.MatchString(name)
}

// A mismatch says that bytes are not those that a blob's name promises.
type mismatch struct{ kind, want, got string }

func (m *mismatch) Error() string {
	return fmt.Sprintf("wrong %s %s, expected %s", m.kind, m.got, m.want)
}

// errNoHash says that a name promises nothing about the bytes.
var errNoHash = errors.New("the name is no hash of the bytes that can be checked")

// A hashKind is a way to make a name of bytes.
type hashKind string

const (
	sha256Kind hashKind = "SHA-256"
	gitKind    hashKind = "git blob id"
	sha1Kind   hashKind = "SHA-1"
	md5Kind    hashKind = "MD5"
)

// checkBlob compares the bytes of a file with the name of its blob. The hub's
// own names are the SHA-256 of a large file and the git blob id of a small one;
// mirrors also use the SHA-1, or the MD5, of the bytes. A name of the length of
// an MD5 is errNoHash if it is not the MD5, since object stores have other names
// of that length, and so is any name that is none of these hashes.
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
