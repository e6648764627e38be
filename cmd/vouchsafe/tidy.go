package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/audit"
)

// firstTidy is soon after the start, so that a service which never runs for an hour
// does it too; then it is every hour.
const firstTidy = time.Minute

// tidy removes from the store what nobody needs any more: repeated requests that
// are too old to come back, the oldest changes, and certificates that ended keep ago.
// A sweep that removes certificates stands in the audit log, once.
func (s *service) tidy(ctx context.Context, keep time.Duration) error {
	err := s.store.Forget(ctx)
	if keep == 0 {
		return err
	}
	return errors.Join(err, s.forgetExpired(ctx, keep))
}

func (s *service) forgetExpired(ctx context.Context, keep time.Duration) error {
	until, n, err := s.store.Ended(ctx, s.now().Add(-keep))
	if err != nil {
		return err
	}
	if n == 0 { // nothing to tell; it only remembers how far it came
		_, err = s.store.ForgetEnded(ctx, until)
		return err
	}
	intent, err := s.audit.Begin(ctx, audit.Event{Actor: "service", Action: "certificates.forgotten", Object: "expired",
		Detail: map[string]string{"certificates": strconv.Itoa(n), "ended-before": until.UTC().Format(time.RFC3339)}})
	if err != nil {
		return err
	}
	if _, err := s.store.ForgetEnded(ctx, until); err != nil {
		intent.Failed(ctx, err)
		return err
	}
	_, err = intent.Done(ctx, nil)
	return err
}
