package mmio

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogIsLimited has a guest break its device a thousand times a second.
func TestLogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := limited{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 25_000 {
			l.warn("broken", errors.New("by the guest"))
			time.Sleep(time.Millisecond)
		}
		if got := strings.Count(out.String(), "\n"); got != 3 {
			t.Errorf("%d lines in 25 seconds, want 3", got)
		}
		if !strings.Contains(out.String(), "unreported=9999") {
			t.Errorf("the log does not say what it left out: %s", out.String())
		}
	})
}
