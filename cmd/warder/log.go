package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"warder/guestinit/proto"
)

// lineLog is a slog.Handler for a person at a terminal: one line a record,
// "warder: message: key value, key value", warnings and errors only.
type lineLog struct {
	mu    *sync.Mutex
	w     io.Writer
	attrs string
}

func newLineLog(w io.Writer) *slog.Logger { return slog.New(&lineLog{mu: new(sync.Mutex), w: w}) }

func (l *lineLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *lineLog) Handle(_ context.Context, r slog.Record) error {
	attrs := l.attrs
	r.Attrs(func(a slog.Attr) bool {
		attrs = add(attrs, a)
		return true
	})
	line := "warder: " + r.Message
	if attrs != "" {
		line += ": " + attrs
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// On a raw terminal a line feed alone does not return the carriage; on
	// others the return does no harm.
	_, err := fmt.Fprint(l.w, line, "\r\n")
	return err
}

func (l *lineLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	for _, a := range attrs {
		c.attrs = add(c.attrs, a)
	}
	return &c
}

// WithGroup leaves the groups out: no record here has so many attributes.
func (l *lineLog) WithGroup(string) slog.Handler { return l }

func add(attrs string, a slog.Attr) string {
	s := a.Key + " " + proto.Printable(a.Value.Resolve().String())
	if attrs == "" {
		return s
	}
	return attrs + ", " + s
}
