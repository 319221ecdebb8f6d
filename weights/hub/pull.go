package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// PullOptions holds the optional arguments of Pull.
type PullOptions struct {
	// Progress, if set, is called during the download, by one goroutine at a time.
	Progress func(Progress)
	// Warn, if set, receives the warnings of a download that continues. Any
	// goroutine may call it.
	Warn func(text string)
	// Check, if set, is called with the model's config.json before the weights are
	// downloaded. An error of Check ends the download.
	Check func(config []byte) error
}

// Pull asks the hub for the commit of ref, downloads the files that the cache
// lacks, and returns the snapshot. If Pull fails or ctx ends, the downloaded
// bytes stay, and the next Pull continues from them. If the environment forbids
// connections, Pull fails unless the cache has all files.
func (c *Client) Pull(ctx context.Context, ref Ref, opts PullOptions) (Snapshot, error) {
	if c.offline != "" {
		s, err := c.Find(ref)
		if errors.Is(err, ErrNotCached) {
			err = fmt.Errorf("%w; %s forbids a download: unset it, or %s", err, c.offline, advice)
		}
		return s, err
	}
	if err := c.connect(); err != nil {
		return Snapshot{}, err
	}
	defer c.content.CloseIdleConnections()
	p := &pull{c: c, ref: ref, opts: opts, meter: &meter{model: ref.Model, report: opts.Progress}}
	if err := p.run(ctx); err != nil {
		if ctx.Err() != nil {
			return Snapshot{}, ctx.Err()
		}
		return Snapshot{}, c.explain(ref, diskError(c.cache, err))
	}
	return c.readSnapshot(ref.Model, p.commit)
}

// A pull is the state of one download of a model.
type pull struct {
	c      *Client
	ref    Ref
	opts   PullOptions
	meter  *meter
	commit string
	listed tree // files of the repository
}

func (p *pull) run(ctx context.Context) error {
	in, err := p.c.describe(ctx, p.ref)
	if err != nil {
		return err
	}
	p.commit, p.listed = in.commit, in.files
	small, weights, err := in.choose()
	if err != nil {
		return err
	}
	files, err := p.prepare(ctx, append(small, weights))
	if err != nil {
		return err
	}
	last := len(files) - 1
	if err := p.download(ctx, files[:last]); err != nil {
		return err
	}
	if err := p.check(files[0]); err != nil {
		return err
	}
	modules, err := p.modules(ctx, files[:last])
	if err != nil {
		return err
	}
	if err := p.download(ctx, files[last:]); err != nil {
		return err
	}
	if weights == indexFile {
		shards, err := p.shards(ctx, files[last])
		if err != nil {
			return err
		}
		files = append(files, shards...)
	}
	return p.publish(ctx, append(files, modules...))
}

// describe asks the hub for the commit and the files of a model.
func (c *Client) describe(ctx context.Context, ref Ref) (info, error) {
	address := c.endpoint.String() + "/api/models/" + ref.Model + "/revision/" + url.PathEscape(ref.Revision) + "?blobs=true"
	data, err := c.get(ctx, address, maxInfo)
	if err != nil {
		return info{}, err
	}
	return parseInfo(data)
}

// prepare asks the hub for the names and sizes of the files' blobs, and reports
// the blobs that have to be downloaded.
func (p *pull) prepare(ctx context.Context, names []string) ([]*blob, error) {
	dir := filepath.Join(p.c.repo(p.ref.Model), "blobs")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	blobs := make([]*blob, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.c.limits.inAll)
	for i, name := range names {
		group.Go(func() (err error) {
			blobs[i], err = p.describeFile(ctx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var need int64
	for _, b := range blobs {
		if b.there() {
			continue
		}
		have, err := b.have()
		if err != nil {
			return nil, err
		}
		need += b.size - have
		b.gauge.announce(have)
	}
	return blobs, checkSpace(dir, need)
}

// describeFile asks the hub for the blob of a file at the pull's commit.
func (p *pull) describeFile(ctx context.Context, name string) (*blob, error) {
	address := p.c.endpoint.String() + "/" + p.ref.Model + "/resolve/" + p.commit + "/" + escapePath(name)
	var header http.Header
	var length int64
	err := p.c.retry(ctx, func() (bool, error) {
		response, err := p.c.send(ctx, p.c.metadata, http.MethodHead, address, nil)
		if err != nil {
			return false, err
		}
		header, length = response.Header, response.ContentLength
		if response.StatusCode >= 300 {
			length = -1 // this is the length of the redirect
		}
		return true, response.Body.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if at := header.Get("X-Repo-Commit"); at != "" && at != p.commit {
		return nil, fmt.Errorf("%s: the hub returned it for commit %s, expected %s", name, p.c.clean(at), p.commit)
	}
	b := &blob{
		c: p.c, model: p.ref.Model, name: name, address: address, size: length,
		listed: p.listed[name].hash(), placed: filepath.Join(p.c.snapshotDir(p.ref.Model, p.commit), filepath.FromSlash(name)), warn: p.warn,
	}
	tag := cmp.Or(header.Get("X-Linked-Etag"), header.Get("ETag"))
	b.etag = p.blobName(name, cleanETag(tag), b.listed)
	if linked := header.Get("X-Linked-Size"); linked != "" {
		if b.size, err = strconv.ParseInt(linked, 10, 64); err != nil {
			b.size = -1
		}
	}
	if b.etag == "" {
		return nil, fmt.Errorf("%s: the hub returned the ETag %q, expected a hash or a valid file name", name, p.c.clean(tag))
	}
	if b.size < 0 {
		return nil, fmt.Errorf("%s: the hub returned no size", name)
	}
	if !isWeights(name) && b.size > maxSmall {
		return nil, fmt.Errorf("%s: too large: %d bytes (limit %d)", name, b.size, maxSmall)
	}
	b.path = filepath.Join(p.c.repo(p.ref.Model), "blobs", b.etag)
	b.gauge = p.meter.gauge(name, b.size)
	return b, nil
}

// blobName returns the name of a file's blob. It is the ETag, as in
// huggingface_hub, if that can be a hash of the bytes. Another ETag, such as one
// made of time and size, may occur for two files. Then the name is the hash in
// the hub's list of files, or else the ETag with a hash of commit and file name.
func (p *pull) blobName(file, etag, listed string) string {
	switch {
	case isHash(etag):
		return etag
	case listed != "" || etag == "":
		return listed
	}
	own := sha256.Sum256([]byte(p.commit + "/" + file))
	return fmt.Sprintf("%.80s.%x", etag, own[:8])
}

func isWeights(name string) bool { return filepath.Ext(name) == ".safetensors" }

// download downloads the missing blobs concurrently.
func (p *pull) download(ctx context.Context, blobs []*blob) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.c.limits.inAll)
	for _, b := range blobs {
		group.Go(func() error {
			if err := b.download(ctx); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// check passes the model's config.json to PullOptions.Check.
func (p *pull) check(config *blob) error {
	if p.opts.Check == nil {
		return nil
	}
	data, err := readBounded(config.content(), maxSmall)
	if err != nil {
		return err
	}
	if err := p.opts.Check(data); err != nil {
		return fmt.Errorf("%s: %w", config.name, err)
	}
	return nil
}

// shards downloads the files that an index of weights lists.
func (p *pull) shards(ctx context.Context, index *blob) ([]*blob, error) {
	data, err := readBounded(index.content(), maxIndex)
	if err != nil {
		return nil, err
	}
	names, err := parseIndex(data)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, ok := p.listed[name]; !ok {
			return nil, fmt.Errorf("%s lists %s, which the repository does not have", indexFile, name)
		}
	}
	blobs, err := p.prepare(ctx, names)
	if err != nil {
		return nil, err
	}
	return blobs, p.download(ctx, blobs)
}

// publish adds the files to the snapshot, config.json last, and then writes the
// ref.
func (p *pull) publish(ctx context.Context, blobs []*blob) error {
	if err := os.MkdirAll(p.c.snapshotDir(p.ref.Model, p.commit), 0o777); err != nil {
		return err
	}
	var missing []*blob
	copies := false
	for _, b := range blobs {
		placed, isCopy := b.isPlaced()
		if !placed {
			missing = append(missing, b)
		}
		copies = copies || isCopy
	}
	if len(missing) > 0 {
		links := p.canLink()
		for _, b := range slices.Backward(missing) {
			if err := b.place(links); err != nil {
				return err
			}
		}
		copies = copies || !links
	}
	if copies {
		if err := p.c.writeTree(p.ref.Model, p.commit, p.listed); err != nil {
			return err
		}
	}
	if p.ref.Revision == p.commit {
		return nil
	}
	return p.writeRef(ctx)
}

// canLink reports whether the snapshot is made of links. It warns if links cannot
// be made.
func (p *pull) canLink() bool {
	err := canLink(p.c.repo(p.ref.Model))
	if err != nil && !errors.Is(err, errLinksDisabled) && !isTrue(os.Getenv("HF_HUB_DISABLE_SYMLINKS_WARNING")) {
		p.warn(fmt.Sprintf("cannot make symbolic links in %s (%v): each version of a model gets its own copy of shared files; "+
			"set HF_HUB_DISABLE_SYMLINKS_WARNING=1 to silence this warning", p.c.cache, err))
	}
	return err == nil
}

func (p *pull) warn(text string) {
	if p.opts.Warn != nil {
		p.opts.Warn(text)
	}
}

// writeRef stores the commit of the revision.
func (p *pull) writeRef(ctx context.Context) (err error) {
	ref := filepath.Join(p.c.repo(p.ref.Model), "refs", filepath.FromSlash(p.ref.Revision))
	if at, err := readCommit(ref); err == nil && at == p.commit {
		return nil
	}
	lock, err := p.c.lock(ctx, p.ref.Model, "refs", func() {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := os.MkdirAll(filepath.Dir(ref), 0o777); err != nil {
		return err
	}
	// Under refs, a temporary file would count as a revision.
	temp := filepath.Join(p.c.repo(p.ref.Model), "ref.tmp")
	return atomicfile.WriteVia(temp, ref, 0o666, func(f *os.File) error {
		_, err := f.WriteString(p.commit)
		return err
	})
}
