package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A blob holds the contents of a file and is named by their hash. During the
// download,
//
//	ETAG.incomplete           holds its first bytes, without a gap
//	ETAG.partSTART.incomplete holds bytes from START on
//
// Python's huggingface_hub uses the first name too. These files only grow at the
// end, so that a later download can continue from all bytes in them.
type blob struct {
	c       *Client
	model   string
	name    string // of the file
	address string
	etag    string
	listed  string // hash in the hub's list of files, "" for none
	size    int64
	path    string
	placed  string // path in the snapshot
	fresh   bool   // downloaded by this process
	gauge   *gauge
	warn    func(string)
}

const incomplete = ".incomplete"

var (
	errWhole   = errors.New("the server does not support ranges")
	errTooLong = errors.New("the server sent more bytes than it announced")
)

// there reports whether the blob's bytes are in the cache: as a blob, or as a file
// of a snapshot without links.
func (b *blob) there() bool { return b.whole(b.path) || b.whole(b.placed) }

// whole reports whether path is a regular file of the blob's size.
func (b *blob) whole(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == b.size
}

// content returns the file with the blob's bytes after the download.
func (b *blob) content() string {
	if b.whole(b.path) {
		return b.path
	}
	return b.placed
}

// download downloads the blob unless the cache has it. If several processes need
// the blob, one downloads it and the others wait.
func (b *blob) download(ctx context.Context) (err error) {
	if b.there() {
		return nil
	}
	began, warned := time.Now(), false
	lock, err := b.c.lock(ctx, b.model, b.etag, func() {
		if have, err := b.have(); err == nil {
			b.gauge.set(have)
		}
		if time.Since(began) > lockPatience && !warned {
			warned = true
			b.warn(fmt.Sprintf("waiting for another process that is downloading %s of %s (lock %s)", b.name, b.model, b.c.lockPath(b.model, b.etag)))
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if !b.there() {
		if err := b.make(ctx); err != nil {
			return err
		}
	}
	b.gauge.finish()
	return nil
}

// make fetches the blob, checks it and commits it. It starts over once if the
// bytes of an earlier run are wrong, or if the server does not support ranges.
func (b *blob) make(ctx context.Context) error {
	for ranges := true; ; {
		old, err := b.have()
		if err != nil {
			return err
		}
		b.gauge.set(old)
		err = b.fetch(ctx, ranges)
		if err == nil {
			err = b.check(ctx)
		}
		if err == nil {
			return b.commit()
		}
		var wrong *mismatch
		switch {
		case errors.Is(err, errWhole) && ranges:
			ranges = false
		case errors.As(err, &wrong) && old > 0:
		case errors.As(err, &wrong):
			err = fmt.Errorf("%w: the download was damaged and has been removed", err)
			return errors.Join(err, b.discard())
		default:
			return err
		}
		if err := b.discard(); err != nil {
			return err
		}
	}
}

// check compares the received bytes with the hash in the hub's list of files, or
// else with the blob's name. If neither is a hash, only the number of bytes has
// been checked.
func (b *blob) check(ctx context.Context) error {
	err := checkBlob(ctx, b.path+incomplete, cmp.Or(b.listed, b.etag))
	if errors.Is(err, errNoHash) {
		return nil
	}
	return err
}

// commit renames the complete file to the name of the blob.
func (b *blob) commit() (err error) {
	f, err := os.Open(b.path + incomplete)
	if err != nil {
		return err
	}
	err = f.Sync()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	b.fresh = true
	return os.Rename(b.path+incomplete, b.path)
}

// A part is a file with the blob's bytes from start on. When it is complete, it
// ends at end.
type part struct {
	path       string
	start, end int64
}

// size returns the number of bytes in the part.
func (p part) size() (int64, error) {
	info, err := os.Stat(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// parts returns the parts on disk in order, without their end.
func (b *blob) parts() ([]part, error) {
	dir, name := filepath.Split(b.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := []part{{path: b.path + incomplete}}
	for _, entry := range entries {
		text, ours := strings.CutPrefix(entry.Name(), name+".part")
		text, ends := strings.CutSuffix(text, incomplete)
		start, err := strconv.ParseInt(text, 10, 64)
		if ours && ends && err == nil && start > 0 {
			found = append(found, part{path: filepath.Join(dir, entry.Name()), start: start})
		}
	}
	slices.SortFunc(found, func(a, b part) int { return cmp.Compare(a.start, b.start) })
	return found, nil
}

// have returns the number of bytes on disk.
func (b *blob) have() (int64, error) {
	parts, err := b.parts()
	var sum int64
	for _, p := range parts {
		n, serr := p.size()
		sum, err = sum+n, errors.Join(err, serr)
	}
	return sum, err
}

// discard removes all parts of the blob.
func (b *blob) discard() error {
	parts, err := b.parts()
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fetch completes ETAG.incomplete. With ranges, it fetches parts concurrently.
func (b *blob) fetch(ctx context.Context, ranges bool) error {
	if err := b.gather(); err != nil {
		return err
	}
	plan, err := b.plan(ranges)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.c.limits.perFile)
	for _, p := range plan {
		group.Go(func() error { return b.fetchPart(ctx, p, ranges) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := b.gather(); err != nil {
		return err
	}
	if have, err := plan[0].size(); err != nil || have != b.size {
		return errors.Join(err, &mismatch{"size", strconv.FormatInt(b.size, 10), strconv.FormatInt(have, 10)})
	}
	return nil
}

// plan divides the missing bytes after the first into parts. Their bounds depend
// only on the size of a part, so that a later run finds the same parts.
func (b *blob) plan(ranges bool) ([]part, error) {
	first := part{path: b.path + incomplete, end: b.size}
	have, err := first.size()
	if err != nil || !ranges {
		return []part{first}, err
	}
	step := b.c.limits.part
	next := func(at int64) int64 { return min((at/step+1)*step, b.size) }
	first.end = max(next(have), have)
	plan := []part{first}
	for at := first.end; at < b.size; at = next(at) {
		plan = append(plan, part{fmt.Sprintf("%s.part%d%s", b.path, at, incomplete), at, next(at)})
	}
	return plan, nil
}

// gather appends to the first part the parts that continue it.
func (b *blob) gather() error {
	parts, err := b.parts()
	if err != nil {
		return err
	}
	first := parts[0]
	for _, p := range parts[1:] {
		have, err := first.size()
		if err != nil {
			return err
		}
		if p.start > have {
			return nil
		}
		if err := appendFrom(first.path, p.path, have-p.start); err != nil {
			return err
		}
		if err := os.Remove(p.path); err != nil {
			return err
		}
	}
	return nil
}

// appendFrom appends the bytes of a file from an offset on to another file.
func appendFrom(to, from string, offset int64) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if _, err := source.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// fetchPart fetches the missing bytes of a part.
func (b *blob) fetchPart(ctx context.Context, p part, ranges bool) (err error) {
	select {
	case b.c.slots <- struct{}{}:
		defer func() { <-b.c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	file, err := os.OpenFile(p.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return b.c.retry(ctx, func() (bool, error) {
		have, err := p.size()
		if err != nil {
			return false, err
		}
		if have > 0 && !ranges || have > p.end-p.start {
			if err := file.Truncate(0); err != nil {
				return false, err
			}
			b.gauge.add(-have)
			have = 0
		}
		if p.start+have == p.end {
			return false, nil
		}
		n, err := b.request(ctx, file, p.start+have, p.end, ranges)
		return n > 0 && ranges, err
	})
}

// request writes the blob's bytes from begin to end to w and returns their number.
func (b *blob) request(ctx context.Context, w io.Writer, begin, end int64, ranges bool) (n int64, err error) {
	live, touch, stop := b.c.watch(ctx)
	defer stop()
	header := http.Header{}
	partly := ranges && (begin > 0 || end < b.size)
	if partly {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", begin, end-1))
	}
	response, err := b.c.send(live, b.c.content, http.MethodGet, b.address, header)
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusRequestedRangeNotSatisfiable {
		return 0, errWhole
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if err := b.checkAnswer(response, partly, begin, end); err != nil {
		return 0, err
	}
	n, err = b.copy(w, io.LimitReader(touch(response.Body), end-begin+1), end-begin)
	var failed *writeError
	switch {
	case errors.As(err, &failed):
		return n, failed.error
	case errors.Is(err, errTooLong):
		return n, err
	case err != nil:
		return n, b.c.readError(live, response, err)
	case n < end-begin:
		return n, b.c.readError(live, response, io.ErrUnexpectedEOF)
	}
	return n, nil
}

// checkAnswer rejects a response that does not contain the requested bytes.
func (b *blob) checkAnswer(r *http.Response, partly bool, begin, end int64) error {
	if !partly {
		if r.StatusCode == http.StatusOK && (r.ContentLength < 0 || r.ContentLength == b.size) {
			return nil
		}
		return fmt.Errorf("%s: status %d and %d bytes, expected status 200 and %d bytes", r.Request.URL.Host, r.StatusCode, r.ContentLength, b.size)
	}
	if r.StatusCode == http.StatusOK {
		return errWhole
	}
	want := fmt.Sprintf("bytes %d-%d/%d", begin, end-1, b.size)
	if got := r.Header.Get("Content-Range"); r.StatusCode != http.StatusPartialContent || got != want {
		return fmt.Errorf("%s: status %d and content range %q, expected status 206 and %q", r.Request.URL.Host, r.StatusCode, b.c.clean(got), want)
	}
	return nil
}

// A writeError is an error of the disk, not of the network.
type writeError struct{ error }

// copy copies at most limit bytes. Fewer bytes are not an error.
func (b *blob) copy(w io.Writer, r io.Reader, limit int64) (n int64, err error) {
	buffer := make([]byte, 256<<10)
	for {
		got, rerr := r.Read(buffer)
		if n+int64(got) > limit {
			return n, errTooLong
		}
		wrote, err := w.Write(buffer[:got])
		n += int64(wrote)
		b.gauge.add(int64(wrote))
		if err != nil {
			return n, &writeError{err}
		}
		if errors.Is(rerr, io.EOF) {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}
