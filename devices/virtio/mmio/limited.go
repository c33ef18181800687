package mmio

import (
	"log/slog"
	"sync"
	"time"
)

// quiet is how long nothing is logged of a device after a line was.
const quiet = 10 * time.Second

// limited is a log that a guest can't fill.
type limited struct {
	log *slog.Logger

	mu     sync.Mutex
	logged time.Time // when the latest line was
	muted  int       // lines not written since
}

func (l *limited) warn(msg string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.logged) < quiet {
		l.muted++
		return
	}
	l.log.Warn(msg, "err", err, "unreported", l.muted)
	l.logged, l.muted = now, 0
}
