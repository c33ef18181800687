package services

import (
	"context"
	"errors"
	"fmt"
	"time"

	"warder/guestinit/proto"
)

// startingInterval is the pause between checks of a service that has not been
// well yet, at the most.
const startingInterval = time.Second

// watchHealth checks a service until ctx ends, and is its first success what
// makes the service a running one. The error says that it is unwell: it failed as
// often in a row as it may, or did not become well in the time that this and its
// start period give.
func (l *life) watchHealth(ctx context.Context, vm VM) error {
	h := l.decl.Health
	patience := time.Duration(h.StartPeriod) + time.Duration(h.Retries)*time.Duration(h.Interval)
	began, well, failures := time.Now(), false, 0
	for {
		err := l.check(ctx, vm)
		if ctx.Err() != nil {
			return nil
		}
		if e, ok := errors.AsType[*proto.Error](err); ok && (e.Code == proto.CodeNotFound || e.Code == proto.CodeNotExecutable) {
			return err // that will not change
		}
		switch {
		case err == nil && !well:
			well, failures = true, 0
			l.runs()
			l.health("ok")
		case err == nil:
			failures = 0
			l.health("ok")
		case !well:
			l.health(err.Error())
			if time.Since(began) >= patience {
				return fmt.Errorf("it was not well within %v: %w", patience, err)
			}
		default:
			l.health(err.Error())
			if failures++; failures >= h.Retries {
				return fmt.Errorf("it failed %d checks in a row: %w", failures, err)
			}
		}
		pause := time.Duration(h.Interval)
		if !well {
			pause = min(pause, startingInterval)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *life) health(text string) {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	l.service.status.Health = text
}

// check runs the check once. What it says is told when it fails.
func (l *life) check(ctx context.Context, vm VM) error {
	h := l.decl.Health
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
	defer cancel()
	status, said, err := vm.Check(ctx)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the health check took longer than %v", h.Timeout)
	case err != nil:
		return fmt.Errorf("the health check could not run: %w", err)
	case status.ExitCode() != 0:
		if said != "" {
			said = ": " + said
		}
		return fmt.Errorf("the health check ended with status %d%s", status.ExitCode(), said)
	}
	return nil
}
