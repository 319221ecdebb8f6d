package hub

import (
	"context"
	"crypto/sha1" // git names blobs by it; what it protects against here is damage
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

var (
	sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	gitPattern    = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// cleanETag returns the name of a blob out of an ETag header, which may be
// quoted and marked as weak.
func cleanETag(header string) string {
	return strings.Trim(strings.TrimPrefix(header, "W/"), `"`)
}

// checkable reports whether a blob of this name can be checked against it.
func checkable(etag string) bool {
	return sha256Pattern.MatchString(etag) || gitPattern.MatchString(etag)
}

// A mismatch says that bytes are not those that a blob's name promises.
type mismatch struct{ kind, want, got string }

func (m *mismatch) Error() string {
	return fmt.Sprintf("wrong %s %s, expected %s", m.kind, m.got, m.want)
}

// checkBlob compares the bytes of a file with the ETag they are named by.
func checkBlob(ctx context.Context, path, etag string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	kind, h := "SHA-256", sha256.New()
	if gitPattern.MatchString(etag) {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		kind, h = "git blob id", sha1.New()
		if _, err := fmt.Fprintf(h, "blob %d\x00", info.Size()); err != nil {
			return err
		}
	}
	source := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	})
	if _, err := io.CopyBuffer(h, source, make([]byte, 1<<20)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != etag {
		return &mismatch{kind, etag, got}
	}
	return nil
}
