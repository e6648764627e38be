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
func (s *statements) compiled(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt, ok := s.known[query]; ok || len(s.known) >= maxStatements {
		return stmt
	}
	// Not the caller's context: the statement outlives the call.
	stmt, err := s.db.PrepareContext(context.Background(), query)
	if err != nil {
		return nil
	}
	if s.known == nil {
		s.known = map[string]*sql.Stmt{}
	}
	s.known[query] = stmt
	return stmt
}

func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if stmt := s.compiled(query); stmt != nil {
		return stmt.QueryContext(ctx, args...)
	}
	return s.db.QueryContext(ctx, query, args...)
}

func (s *statements) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := s.compiled(query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return s.db.QueryRowContext(ctx, query, args...)
}

func (s *statements) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if stmt := s.compiled(query); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return s.db.ExecContext(ctx, query, args...)
}
