// Package store keeps what the service must not forget in one SQLite file. It
// implements the small interfaces that the domain packages declare; they know
// nothing of it, and no SQL stands anywhere else.
//
// One connection writes and many read. Writers hand a function to [Store.write]
// and get their answer after the commit that holds it; whoever waits at the
// same time shares one transaction and one fsync, each behind a savepoint of
// its own. Nothing is acknowledged before it is on disk.
//
// SQLite is modernc.org/sqlite, in pure Go, in WAL mode with synchronous=FULL.
// It was measured beside bbolt (no group commit either, twice the fsyncs),
// pebble and etcd (10 to 20 MB of binary): one file, SQL, and a later
// PostgreSQL with the same text.
//
// Begin with [Open].
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite" // registers itself with database/sql as "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// Limits, and why.
const (
	maxBatch = 50   // jobs in one transaction: beyond this, waiting grows and fsyncs hardly shrink
	maxQueue = 1024 // jobs waiting; more are turned away
	readers  = 4    // connections that read: twice the cores of a small machine
)

var (
	// ErrNotFound means that there is no such row for this tenant.
	ErrNotFound = enroll.ErrNotFound
	// ErrExists means that the name is taken.
	ErrExists = enroll.ErrExists
	// ErrFull means that the disk is full. Nothing was written; reads go on.
	ErrFull = errors.New("the disk is full: nothing is written until there is room")
	// ErrBusy means that too many writers wait. Try again later.
	ErrBusy = errors.New("too many writes are waiting")
	// ErrTooOld means that the SQLite inside this program has a bug that loses data.
	ErrTooOld = errors.New("this SQLite is older than 3.51.3 and may corrupt a WAL")
	// ErrNewer means that a newer program wrote this store. Use that one.
	ErrNewer = errors.New("the store was written by a newer program")

	errClosed = errors.New("the store is closed")
)

// Store is an open store. It is safe for concurrent use.
type Store struct {
	path    string
	writing *sql.DB // one connection, owned by the writer goroutine
	reading *sql.DB
	read    *statements // of reading
	now     func() time.Time

	queue chan *job
	quit  chan struct{}
	gone  chan struct{}
	once  sync.Once
}

type job struct {
	do     func(*tx) error
	err    error
	answer chan struct{}
	// taken is set by whoever comes first: the writer, who then runs it, or the
	// caller, who then has given up.
	taken atomic.Bool
}

// Open opens the store at path, creates it when it is not there, and brings
// its schema up to date.
func Open(ctx context.Context, path string, now func() time.Time) (*Store, error) {
	if now == nil {
		now = time.Now
	}
	s := &Store{path: path, now: now, queue: make(chan *job, maxQueue), quit: make(chan struct{}), gone: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	conn, err := s.writing.Conn(ctx)
	if err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	go s.writer(conn)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	// SQLite would make it readable by everybody; its companions take over this mode.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.writing, err = sql.Open("sqlite", dsn(s.path, "synchronous(FULL)", "wal_autocheckpoint(1000)")); err != nil {
		return err
	}
	s.writing.SetMaxOpenConns(1)
	if err := safe(ctx, s.writing); err != nil {
		return err
	}
	if err := migrate(ctx, s.writing, s.now()); err != nil {
		return err
	}
	s.reading, err = sql.Open("sqlite", dsn(s.path, "query_only(1)"))
	if err != nil {
		return err
	}
	s.reading.SetMaxOpenConns(readers)
	s.reading.SetMaxIdleConns(readers)
	s.read = &statements{db: s.reading}
	return s.reading.PingContext(ctx)
}

// dsn opens path in WAL mode with foreign keys checked.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range append([]string{"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String()
}

// safe checks that SQLite really does what durability needs.
func safe(ctx context.Context, db *sql.DB) error {
	var version, mode string
	var sync int
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return err
	}
	if !atLeast(version, 3, 51, 3) {
		return fmt.Errorf("SQLite %s: %w", version, ErrTooOld)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&sync); err != nil {
		return err
	}
	if mode != "wal" || sync != 2 {
		return fmt.Errorf("journal_mode is %s and synchronous %d, want wal and 2 (FULL)", mode, sync)
	}
	return nil
}

// atLeast compares a dotted version. Data written by a WAL of 3.7.0 to 3.51.2
// may be lost when a reset of the log races with a checkpoint.
func atLeast(version string, want ...int) bool {
	parts := strings.Split(version, ".")
	for i, w := range want {
		n := 0
		if i < len(parts) {
			var err error
			if n, err = strconv.Atoi(parts[i]); err != nil {
				return false
			}
		}
		if n != w {
			return n > w
		}
	}
	return true
}

// Close waits for the writers that were taken and closes the store.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.quit) })
	<-s.gone
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.reading, s.writing} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// write runs do inside a transaction and returns when that is on disk. do may
// run only once, and must not keep tx.
func (s *Store) write(ctx context.Context, do func(*tx) error) error {
	j := &job{do: do, answer: make(chan struct{})}
	select {
	case <-s.quit:
		return errClosed
	default:
	}
	select {
	case s.queue <- j:
	default:
		return ErrBusy
	}
	select {
	case <-j.answer:
		return j.err
	case <-s.gone:
		select {
		case <-j.answer:
			return j.err
		default:
			return errClosed
		}
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return ctx.Err() // nothing was written, and nothing will be
		}
		<-j.answer // it is being written: the answer is near
		return j.err
	}
}

// writer is the one goroutine that writes.
func (s *Store) writer(conn *sql.Conn) {
	defer close(s.gone)
	defer conn.Close()
	write := &statements{db: conn}
	batch := make([]*job, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case j := <-s.queue:
			batch = append(batch, j)
		case <-s.quit:
			select {
			case j := <-s.queue:
				batch = append(batch, j)
			default:
				return
			}
		}
	more:
		for len(batch) < maxBatch {
			select {
			case j := <-s.queue:
				batch = append(batch, j)
			default:
				break more
			}
		}
		s.commit(write, batch)
		for _, j := range batch {
			close(j.answer)
		}
	}
}

// commit runs a batch in one transaction. A job that fails is undone alone; an
// error that may have undone the transaction fails them all.
func (s *Store) commit(conn *statements, batch []*job) {
	// Not the callers' contexts: interrupting a statement would undo the others' work.
	ctx := context.Background()
	failAll := func(err error) {
		conn.ExecContext(ctx, "ROLLBACK") // an error here means that there is nothing to undo
		for _, j := range batch {
			j.err = plain(err)
		}
	}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		failAll(err)
		return
	}
	for _, j := range batch {
		if !j.taken.CompareAndSwap(false, true) {
			continue
		}
		if _, err := conn.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			failAll(err)
			return
		}
		t := &tx{ctx, conn, s.now()}
		if j.err = j.do(t); j.err != nil {
			if undoes(j.err) {
				failAll(j.err)
				return
			}
			j.err = plain(j.err)
			if _, err := conn.ExecContext(ctx, "ROLLBACK TO job"); err != nil {
				failAll(err)
				return
			}
		}
		if _, err := conn.ExecContext(ctx, "RELEASE job"); err != nil {
			failAll(err)
			return
		}
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		failAll(err)
	}
}

// undoes says whether SQLite may have rolled the whole transaction back
// (sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction").
func undoes(err error) bool {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return false
}

func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// plain turns SQLite's errors into ours, where ours say more.
func plain(err error) error {
	switch c := code(err); {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case c&0xff == sqlite3.SQLITE_FULL:
		return ErrFull
	case c == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return ErrExists
	}
	return err
}

// tx is one job's view of the transaction.
type tx struct {
	ctx  context.Context
	conn *statements
	now  time.Time
}

func (t *tx) exec(query string, args ...any) (int64, error) {
	r, err := t.conn.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *tx) row(query string, args ...any) *sql.Row {
	return t.conn.QueryRowContext(t.ctx, query, args...)
}

// changed moves the revision on and notes what changed. As there is one writer,
// revisions are in the order of commits.
func (t *tx) changed(tenant, kind, id, op string) error {
	var rev int64
	if err := t.row(`UPDATE revision SET rev = rev + 1 WHERE tenant = '' RETURNING rev`).Scan(&rev); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO change (tenant, rev, kind, id, op, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		tenant, rev, kind, id, op, millis(t.now))
	return err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
