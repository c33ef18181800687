package virtio

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	broken := errors.New("broken")
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	done := func(context.Context) error { return nil }

	if err := Serve(t.Context(), done, done); err != nil {
		t.Errorf("loops that end: %v", err)
	}
	if err := Serve(t.Context(), wait, done, func(context.Context) error { return broken }); err != broken {
		t.Errorf("a loop that fails: %v", err)
	}
	if err := Serve(t.Context(), wait, func(context.Context) error { panic("at the disco") }); err == nil || !strings.Contains(err.Error(), "at the disco") {
		t.Errorf("a loop that panics: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Serve(ctx, wait, wait); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ends: %v", err)
	}
}
