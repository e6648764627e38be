package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxStatements is how many are kept compiled: there are fewer in this package.
// Some KiB each, for each connection that has run it.
const maxStatements = 128

// statements keeps the queries of a pool, or of one connection, compiled: for
// most of ours SQLite's parser works longer than its machine.
type statements struct {
	db interface {
		querier
		PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	}

	mu    sync.Mutex
	known map[string]*sql.Stmt
}

// compiled is nil when the query is to be run as it is, which then also says what
// is wrong with it.
func (s *statements) compiled(ctx context.Context, query string) *sql.Stmt {
	s.mu.Lock()
	known, ok := s.known[query]
	ok = ok || len(s.known) >= maxStatements
	s.mu.Unlock()
	if ok {
		return known
	}
	// Without the lock: it may have to wait for a connection.
	stmt, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[query]; ok {
		stmt.Close()
		return known
	}
	if s.known == nil {
		s.known = map[string]*sql.Stmt{}
	}
	s.known[query] = stmt
	return stmt
}

func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := s.compiled(ctx, query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return s.db.QueryContext(ctx, query, args...)
}

func (s *statements) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := s.compiled(ctx, query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return s.db.QueryRowContext(ctx, query, args...)
}

func (s *statements) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if stmt := s.compiled(ctx, query); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return s.db.ExecContext(ctx, query, args...)
}
