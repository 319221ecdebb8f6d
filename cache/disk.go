package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/ncruces/go-sqlite3"
	"github.com/rs/zerolog"
)

const (
	// fileName has the version of the format, so that another format is another file.
	fileName = "scores-1.db"

	maxDiskBytes = 1 << 30
	pageBytes    = 4096
	ranges       = 256 // of keys, by their first byte

	// Writes wait for each other so long; reads wait for nothing but a recovery. Another
	// process that holds the lock longer, such as a stopped one, costs entries, not time.
	busyTime = 500 * time.Millisecond

	writeDelay  = 50 * time.Millisecond // after the first entry, for more to come
	maxUnstored = 1 << 16               // entries; more are not stored
	sumBytes    = 8
)

// A disk is a SQLite database in WAL mode, which several processes may use at once.
// SQLite recovers from a process that was killed. It does not check pages, so each
// record has a checksum of its key and value.
type disk struct {
	path  string
	limit int64 // in bytes
	log   zerolog.Logger

	mu       sync.Mutex // of read and replaced
	read     *connection
	replaced bool         // once, after damage
	changes  atomic.Int64 // counts replacements, after which connections are of no use
	broken   atomic.Bool  // the store is not used any more

	queueing sync.Mutex
	queue    []record
	wake     chan struct{} // holds one element while the queue has entries
	stop     chan struct{}
	done     chan struct{}

	pages atomic.Int64 // in use
}

// A record is an entry on its way to the disk.
type record struct {
	key   [32]byte
	value string
}

func openDisk(dir string, limit int64, log zerolog.Logger) (*disk, error) {
	if err := makePrivate(dir); err != nil {
		return nil, err
	}
	// SQLite refuses links in any part of a path, and macOS has one in each temporary one.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w; choose another directory, on a local file system", err)
	}
	d := &disk{
		path: filepath.Join(dir, fileName), limit: limit, log: log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	err = d.open()
	if isDamage(err) {
		err = d.replace(err)
	}
	switch {
	case errors.Is(err, sqlite3.BUSY):
		d.broken.Store(true)
		log.Warn().Str("file", d.path).Err(err).Msg("another process holds the cache locked; it is not used")
	case err != nil:
		return nil, fmt.Errorf("cache: %s: %w; choose another directory, on a local file system", d.path, err)
	}
	go d.write()
	return d, nil
}

// makePrivate makes a directory for this user only. It refuses one that others can
// write to, because they could replace the store.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cache: cannot make the directory: %w; choose another directory, on a local file system", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cache: %w; choose another directory, on a local file system", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("cache: others can write to %s (mode %04o); choose another directory, or run chmod go-w on it", dir, info.Mode().Perm())
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && isForeign(int(stat.Uid), os.Geteuid()) {
		return fmt.Errorf("cache: %s belongs to user %d; choose a directory of your own", dir, stat.Uid)
	}
	return nil
}

// isForeign reports whether a directory's owner could give a user wrong scores. The
// superuser could in any case.
func isForeign(owner, user int) bool { return owner != user && owner != 0 && user != 0 }

// open opens the reading connection and makes what is missing.
func (d *disk) open() error {
	if err := d.protect(); err != nil {
		return err
	}
	c, err := connect(d.path, `SELECT value FROM scores WHERE key = ?`)
	if err != nil {
		return err
	}
	err = d.protect() // also what SQLite has made
	if err == nil {
		err = d.count(c)
	}
	if err != nil {
		return errors.Join(err, c.close())
	}
	d.read = c
	return nil
}

// protect makes the files of the store, or makes them private. It changes no file that a
// link names.
func (d *disk) protect() error {
	for _, path := range []string{d.path, d.path + "-wal", d.path + "-shm"} {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = file.Chmod(0o600)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// A connection has one prepared statement.
type connection struct {
	*sqlite3.Conn
	stmt *sqlite3.Stmt
}

// connect opens a connection in WAL mode, and makes the table if it is missing.
func connect(path, statement string) (*connection, error) {
	conn, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE|sqlite3.OPEN_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn}
	err = conn.BusyTimeout(busyTime)
	if err == nil {
		// With NORMAL a loss of power loses the last entries, and damages nothing.
		err = conn.Exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
			CREATE TABLE IF NOT EXISTS scores(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID`)
	}
	if err == nil {
		c.stmt, _, err = conn.PrepareFlags(statement, sqlite3.PREPARE_PERSISTENT)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *connection) close() error {
	if c == nil {
		return nil
	}
	var err error
	if c.stmt != nil {
		err = c.stmt.Close()
	}
	return errors.Join(err, c.Close())
}

// get sets the values of keys whose value is "", and returns the indexes of those
// that it has found.
func (d *disk) get(keys [][32]byte, values []string) []int {
	if d.broken.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read == nil {
		return nil
	}
	var found []int
	err := d.read.Exec(`BEGIN`)
	for i := 0; i < len(keys) && err == nil; i++ {
		if values[i] == "" {
			if values[i], err = d.find(keys[i]); values[i] != "" {
				found = append(found, i)
			}
		}
	}
	if !d.read.GetAutocommit() {
		err = errors.Join(err, d.read.Exec(`ROLLBACK`))
	}
	if err != nil {
		d.fail(err)
	}
	return found
}

// find returns the value of a key, "" if there is none or it is damaged.
func (d *disk) find(key [32]byte) (value string, err error) {
	if err := d.read.stmt.BindBlob(1, key[:]); err != nil {
		return "", err
	}
	if d.read.stmt.Step() {
		value = unseal(key, d.read.stmt.ColumnRawBlob(0))
	}
	return value, errors.Join(d.read.stmt.Err(), d.read.stmt.Reset())
}

// seal appends a checksum to a value, and unseal removes it.
func seal(r record) []byte {
	return binary.LittleEndian.AppendUint64([]byte(r.value), checksum(r.key, []byte(r.value)))
}

func unseal(key [32]byte, stored []byte) string {
	n := len(stored) - sumBytes
	if n <= 0 || binary.LittleEndian.Uint64(stored[n:]) != checksum(key, stored[:n]) {
		return ""
	}
	return string(stored[:n])
}

func checksum(key [32]byte, value []byte) uint64 {
	return xxhash.Sum64(slices.Concat(key[:], value))
}

// put queues values for the disk.
func (d *disk) put(keys [][32]byte, values []string) {
	if d.broken.Load() {
		return
	}
	d.queueing.Lock()
	for i := 0; i < len(keys) && len(d.queue) < maxUnstored; i++ {
		d.queue = append(d.queue, record{keys[i], values[i]})
	}
	d.queueing.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// write stores what is queued, until the store is closed.
func (d *disk) write() {
	defer close(d.done)
	var w writer
	for open := true; open; {
		open = d.waitForRecords()
		d.queueing.Lock()
		records := d.queue
		d.queue = nil
		d.queueing.Unlock()
		if len(records) > 0 && !d.broken.Load() {
			d.flush(&w, records)
		}
	}
	if err := w.close(); err != nil {
		d.log.Debug().Err(err).Msg("closing the cache")
	}
}

// A writer has the connection that writes, nil before the first write.
type writer struct {
	*connection
	changes int64 // replacements of the store before it was opened
}

// flush stores records, once more if the store had to be replaced.
func (d *disk) flush(w *writer, records []record) {
	for range 2 {
		err := d.reconnect(w)
		if err == nil {
			err = d.store(w.connection, records)
		}
		if err == nil {
			return
		}
		d.mu.Lock()
		d.fail(err)
		d.mu.Unlock()
		if d.changes.Load() == w.changes {
			return
		}
	}
}

// reconnect opens the connection that writes, unless it is one to the present store.
func (d *disk) reconnect(w *writer) error {
	n := d.changes.Load()
	if w.connection != nil && w.changes == n {
		return nil
	}
	closed := w.close()
	w.changes = n
	var err error
	w.connection, err = connect(d.path, `INSERT OR REPLACE INTO scores VALUES (?, ?)`)
	if err == nil && closed != nil {
		d.log.Debug().Err(closed).Msg("closing a store that was replaced")
	}
	return err
}

// waitForRecords waits for records, and a little longer for more. It returns false once
// the store is closed.
func (d *disk) waitForRecords() bool {
	select {
	case <-d.stop:
		return false
	case <-d.wake:
	}
	timer := time.NewTimer(writeDelay)
	defer timer.Stop()
	select {
	case <-d.stop:
		return false
	case <-timer.C:
		return true
	}
}

// store writes records, and drops others if the store is full, in one transaction.
func (d *disk) store(c *connection, records []record) (err error) {
	tx, err := c.BeginImmediate()
	if err != nil {
		return err
	}
	defer tx.End(&err)
	for _, r := range records {
		err := errors.Join(c.stmt.BindBlob(1, r.key[:]), c.stmt.BindBlob(2, seal(r)))
		if err == nil {
			err = c.stmt.Exec()
		}
		if err != nil {
			return err
		}
	}
	return d.trim(c)
}

// trim drops entries until the store is within its limit. Keys are hashes, so a range of
// keys is a random choice of entries.
func (d *disk) trim(c *connection) error {
	err := d.count(c)
	first := rand.IntN(ranges)
	for i := 0; i < ranges && err == nil && d.bytes() > d.limit; i++ {
		at := (first + i) % ranges
		err = c.Exec(fmt.Sprintf(`DELETE FROM scores WHERE key >= x'%02x' AND key <= x'%02x%s'`, at, at, strings.Repeat("ff", 31)))
		if err == nil {
			err = d.count(c)
		}
	}
	return err
}

// count counts the pages of the database that are in use.
func (d *disk) count(c *connection) error {
	stmt, _, err := c.Prepare(`SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count`)
	if err != nil {
		return err
	}
	if stmt.Step() {
		d.pages.Store(stmt.ColumnInt64(0))
	}
	return stmt.Close() // with the error of Step
}

// fail handles an error of the database: it replaces a damaged one once, and gives the
// store up after other errors. The lock d.mu is held.
func (d *disk) fail(err error) {
	switch {
	case errors.Is(err, sqlite3.BUSY):
		d.log.Debug().Err(err).Msg("the cache is busy; some entries are not stored")
		return
	case isDamage(err) && !d.replaced && !d.broken.Load():
		if err = d.replace(err); err == nil {
			return
		}
	}
	if !d.broken.Swap(true) {
		d.log.Warn().Str("file", d.path).Err(err).Msg("the cache on disk cannot be used any more; scores are computed")
	}
}

// isDamage reports whether a store is damaged. A disk that takes no more is no damage: it
// must not cost the entries that the store has.
func isDamage(err error) bool {
	for _, full := range []error{sqlite3.FULL, sqlite3.IOERR_WRITE, sqlite3.IOERR_TRUNCATE, sqlite3.IOERR_FSYNC, sqlite3.IOERR_SHMSIZE} {
		if errors.Is(err, full) {
			return false
		}
	}
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.IOERR) || errors.Is(err, sqlite3.ERROR)
}

// replace removes a damaged store and makes an empty one.
func (d *disk) replace(cause error) error {
	d.replaced = true
	d.changes.Add(1)
	d.log.Warn().Str("file", d.path).Err(cause).Msg("the cache on disk is damaged; it is replaced by an empty one")
	if err := d.closeRead(); err != nil {
		d.log.Debug().Err(err).Msg("closing the damaged cache")
	}
	for _, path := range []string{d.path + "-wal", d.path + "-shm", d.path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(cause, err)
		}
	}
	return d.open()
}

func (d *disk) closeRead() error {
	err := d.read.close()
	d.read = nil
	return err
}

// bytes returns the size of what is stored, as of the last write of this process.
func (d *disk) bytes() int64 { return d.pages.Load() * pageBytes }

func (d *disk) close() error {
	close(d.stop)
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closeRead()
}
